"""detectron2's names of a ResNet, and what transformers and torchvision call the same tensors."""

#: detectron2 (a pattern) -> transformers' ResNetBackbone
HF_RESNET = (
    (r"stem\.conv1\.norm\.", "embedder.embedder.normalization."),
    (r"stem\.conv1\.", "embedder.embedder.convolution."),
    *(
        (rf"res{stage + 2}\.(\d+)\.{old}", rf"encoder.stages.{stage}.layers.\1.{new}")
        for stage in range(4)
        for old, new in (
            (r"shortcut\.norm\.", "shortcut.normalization."),
            (r"shortcut\.", "shortcut.convolution."),
            *(
                pair
                for conv in (1, 2, 3)
                for pair in (
                    (rf"conv{conv}\.norm\.", rf"layer.{conv - 1}.normalization."),
                    (rf"conv{conv}\.", rf"layer.{conv - 1}.convolution."),
                )
            ),
        )
    ),
)

#: detectron2 (a pattern) -> torchvision's resnet50
TORCHVISION_RESNET = (
    (r"stem\.conv1\.norm\.", "bn1."),
    (r"stem\.conv1\.", "conv1."),
    *(
        (rf"res{stage + 1}\.(\d+)\.{old}", rf"layer{stage}.\1.{new}")
        for stage in (1, 2, 3, 4)
        for old, new in (
            (r"shortcut\.norm\.", "downsample.1."),
            (r"shortcut\.", "downsample.0."),
            *(
                pair
                for conv in (1, 2, 3)
                for pair in (
                    (rf"conv{conv}\.norm\.", rf"bn{conv}."),
                    (rf"conv{conv}\.", rf"conv{conv}."),
                )
            ),
        )
    ),
)
