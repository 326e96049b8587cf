"""dots.ocr's processor: Qwen2-VL's pictures, one frame a patch, and `<|imgpad|>` for each token."""

from __future__ import annotations

from typing import Any

from transformers import ProcessorMixin

IMAGE, OPEN, CLOSE = "<|imgpad|>", "<|img|>", "<|endofimg|>"
USER, END_USER, ASSISTANT = "<|user|>", "<|endofuser|>", "<|assistant|>"
END_TEXT, END_ASSISTANT = "<|endoftext|>", "<|endofassistant|>"

# The release's own special tokens, by id from 151665 on.
SPECIAL = (
    IMAGE, OPEN, CLOSE, "<|systemprompt|>", "<|endofsystemprompt|>", USER, END_USER, ASSISTANT,
    END_ASSISTANT,
)  # fmt: skip


class DotsVLProcessor(ProcessorMixin):
    """Named as in the released preprocessor_config.json, so that `AutoProcessor` finds it."""

    return_mm_token_type_ids = False

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None
    ) -> None:
        self.image_token = IMAGE
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
        """As many image tokens as the picture gives."""
        tokens = image_inputs["image_grid_thw"][image_idx].prod()
        return IMAGE * int(tokens // self.image_processor.merge_size**2)


def framed(prompt: str) -> str:
    """A picture and a prompt as the release's server puts them; not a blank more.

    The template for lists of parts in the released processor leaves the user's marks out and adds
    a blank; neither training nor the published scores had it so.
    """
    return f"{USER}{OPEN}{IMAGE}{CLOSE}{prompt}{END_USER}{ASSISTANT}"
