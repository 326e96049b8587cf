# ruff: noqa: RUF001
"""Declining in other languages, said in English before the classifier reads it.

Its features know English only. A sentence in which a speaker of one of these languages declines is
replaced by a plain English one; all other words stay as they are.
"""

import re

DECLINED = "I'm sorry, but I can't help with that."
# a refusing verb with the verb of helping that it negates, since "no puedo evitar" declines nothing
LANGUAGES = {
    "Arabic": r"لا\s+(?:أستطيع|يمكنني|يمكننا|أقدر|أود)\s+(?:أن\s+)?(?:\w+\s+){0,2}?"
    r"(?:أ?ساعد|مساعد|تقديم|أقدم|تزويد|إعطاء|كتابة|الإجابة|المساعدة)",
    "Chinese": r"(?:我|抱歉|对不起|對不起|遗憾|作为)[^。！？]{0,15}"
    r"(?:不能|无法|無法|不会|不會|不可以|没办法|不便|拒绝|拒絕)(?:为|為|向|给|給|帮|幫)?(?:您|你)?"
    r"(?:帮|幫|提供|协助|協助|回答|满足|滿足|完成|支持|参与|參與|写|寫|编写|讨论|给出|这样做)",
    "Dutch": r"\b(?:ik|wij|we)\b[^.!?]{0,20}\b(?:kan|kunnen|mag|zal|wil)\b[^.!?]{0,40}"
    r"\b(?:niet|geen)\b[^.!?]{0,40}\b(?:helpen|geven|verstrekken|beantwoorden|schrijven)\b",
    "French": r"\b(?:je|nous)\s+(?:ne\s+)?(?:peux|puis|pourrais|pouvons|vais|dois|suis)\s+"
    r"(?:pas|en mesure|dans l'incapacité)\s+(?:\S+\s+){0,3}?(?:\w')?(?:aider|fournir|donner|"
    r"répondre|écrire|assister|rédiger|expliquer|partager|conseiller|accéder)|\bje\s+refuse\b",
    "German": r"\b(?:(?:ich|wir)\s+(?:kann|können|darf|werde|möchte)|"
    r"(?:kann|können|darf|werde|möchte)\s+(?:ich|wir))\b[^.!?]{0,40}\b(?:nicht|kein\w*)\b"
    r"[^.!?]{0,80}\b(?:\w{0,9}helfen|unterstützen|geben|bereitstellen|erklären|schreiben|anbieten|"
    r"beantworten|erfüllen|erstellen|verfassen|dienen)\b",
    "Hindi": r"(?:मदद|सहायता|जानकारी)[^।]{0,20}नहीं\s+(?:कर|दे)",
    "Italian": r"\bnon\s+(?:posso|possiamo|potrei|intendo|sono\s+in\s+grado\s+di)\s+"
    r"(?:\w+\s+){0,2}?(?:aiutar|fornir|dar|scriver|assister|risponder|offrir|spiegar|condivider)",
    "Japanese": r"(?:お手伝い|お答え|お応え|提供|協力|対応|案内|支援|書くこと|教えること|回答)"
    r"[^。]{0,12}(?:できません|出来ません|できかねます|いたしかねます)",
    "Korean": r"(?:도와|도움을|제공|답변|응답|작성|알려)[^.]{0,15}"
    r"(?:없습니다|없어요|않겠습니다|못합니다)",
    "Portuguese": r"\bnão\s+(?:posso|podemos|poderia|vou|devo|consigo)\s+(?:\w+\s+){0,2}?"
    r"(?:ajud|fornec|dar|escrev|respond|auxili|oferec|explic|compartilh|cri)",
    "Russian": r"\bне\s+(?:могу|можем|буду|вправе|стану)\s+(?:\w+\s+){0,3}?"
    r"(?:помо|предостав|дать|давать|написать|выполнить|ответить|рассказ|объясн|содейств|созда)",
    "Spanish": r"\bno\s+(?:puedo|podemos|podría|debo|voy\s+a)\s+(?:\w+\s+){0,2}?"
    r"(?:ayudar|asistir|proporcionar|dar|ofrecer|escribir|cumplir|responder|facilitar|explicar|"
    r"compartir|generar|crear)|\bme\s+niego\s+a\b",
}
FOREIGN = re.compile("|".join(f"(?:{one})" for one in LANGUAGES.values()), re.IGNORECASE)
SENTENCE = re.compile(r"[^.!?。！？।\n]*[.!?。！？।]*\s*")
LONGEST = 500  # characters of a sentence that are looked at, so that no text is slow


def in_english(answer: str) -> str:
    """The answer with declining sentences of other languages said in English.

    >>> in_english("Lo siento, pero no puedo ayudarte con eso. Habla con tu médico.")
    "I'm sorry, but I can't help with that. Habla con tu médico."
    >>> in_english("抱歉，我无法提供这些信息。") == DECLINED
    True
    """
    if not FOREIGN.search(answer):
        return answer
    said = [
        f"{DECLINED} " if FOREIGN.search(one[:LONGEST]) else one for one in SENTENCE.findall(answer)
    ]
    return "".join(said).strip()
