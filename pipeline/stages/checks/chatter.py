"""The check for what a model says around its answer, or instead of it.

Tables of phrases in the larger languages, each anchored to where it gives itself away: a label at the start of a line, an
opener or a refusal at the start of the text. Nothing here looks for a word alone, because people write "Here is the key."
and "I'm sorry, I can't come." too; and what the real sentence says itself, its paraphrase or translation may say.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import regex

from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault, real, written

# One line a language: what a model writes before a colon.
_LABELS = """
    hint|answer|query|question|search query|note|translation|translated(?: text)?|paraphrase[d]?|explanation|output|response|passage|rewritten
    pista|respuesta|consulta|pregunta|nota|traducción|explicación|paráfrasis
    indice|réponse|requête|remarque|traduction|explication|reformulation
    hinweis|antwort|anfrage|frage|anmerkung|übersetzung|erklärung|umformulierung
    dica|resposta|pergunta|observação|tradução|explicação
    suggerimento|risposta|domanda|traduzione|spiegazione
    hint|antwoord|vraag|opmerking|vertaling|podpowiedź|odpowiedź|pytanie|uwaga|tłumaczenie
    подсказка|ответ|запрос|вопрос|примечание|перевод|відповідь|питання|примітка|переклад
    提示|答案|回答|查询|查詢|问题|問題|注|注意|翻译|翻譯|译文|譯文|解释
    ヒント|答え|クエリ|質問|注記|翻訳|説明|힌트|답변|답|질문|참고|번역|설명
    تلميح|إجابة|الإجابة|الجواب|سؤال|السؤال|ملاحظة|ترجمة|الترجمة|پاسخ|پرسش|سوال|ترجمه|جواب
    संकेत|उत्तर|प्रश्न|नोट|अनुवाद|উত্তর|প্রশ্ন|অনুবাদ
    ipucu|cevap|yanıt|sorgu|soru|çeviri|açıklama
    petunjuk|jawaban|pertanyaan|catatan|terjemahan|gợi ý|trả lời|câu hỏi|ghi chú|bản dịch
    คำใบ้|คำตอบ|คำถาม|หมายเหตุ|คำแปล|jibu|swali|tafsiri
"""
_ROLES = "user|assistant|system|human|ai"
_MADE = (
    "query|queries|question|questions|translation|translations|paraphrase|paraphrases|sentence|rewrite|version|answer|"
    "search query|possible query|example|response|summary"
)
_OPENERS = rf"""
    (?:question|query|pregunta|pergunta|frage|вопрос|问题|質問|soru|pertanyaan)\ ?\d{{1,2}}\s*(?:$|\n|[.)-])
    (?:sure|certainly|of\ course|absolutely|okay|ok|great)\b[,!.:\s]+(?:here|i\ can\ help|i'd\ be\ happy|let\ me)\b
    here(?:'s|\ is|\ are)\ (?:an?|the|your|my|one|some)\ (?:\w+\ ){{0,4}}(?:{_MADE})\b
    (?:the|a|my)\ (?:{_MADE})\ (?:is|would\ be|could\ be|in\ \w+\ is)\s*:
    (?:claro|por\ supuesto|desde\ luego)\b[,!.:\s]+aquí\b
    aquí\ (?:está|tienes|hay|te\ dejo)\ (?:una?|la|el|tu)\ (?:\w+\ ){{0,3}}(?:traducción|pregunta|consulta|paráfrasis|respuesta|frase)\b
    (?:bien\ sûr|certainement|d'accord)\b[,!.:\s]+voici\b
    voici\ (?:une?|la|le|votre)\ (?:\w+\ ){{0,3}}(?:traduction|question|requête|paraphrase|réponse|phrase)\b
    (?:natürlich|gerne?|klar|sicher)\b[,!.:\s]+hier\ (?:ist|sind)\b
    hier\ ist\ (?:eine?|die|der|das|ihre|deine)\ (?:\w+\ ){{0,3}}(?:übersetzung|frage|anfrage|umschreibung|antwort)\b
    (?:claro|com\ certeza)\b[,!.:\s]+aqui\b
    aqui\ (?:está|vai)\ (?:uma?|a|o|sua)\ (?:\w+\ ){{0,3}}(?:tradução|pergunta|consulta|paráfrase|resposta|frase)\b
    (?:certo|certamente)\b[,!.:\s]+ecco\b
    ecco\ (?:una?|la|il)\ (?:\w+\ ){{0,3}}(?:traduzione|domanda|parafrasi|risposta)\b
    (?:конечно|хорошо)[,!.:\s]+вот\b
    вот\ (?:\w+\ ){{0,3}}(?:перевод|вопрос|запрос|перефраз\w*|ответ)\b
    (?:好的|当然|當然)[,，!！。:：\s]*(?:以下|这是|這是|下面)
    (?:以下|下面)(?:是|为|為)\w{{0,12}}(?:翻译|翻譯|问题|問題|查询|查詢|句子|答案|回答|改写)
    (?:もちろん|はい)[、,!！。\s]*(?:以下|こちら)
    (?:以下|こちら)(?:は|が)\w{{0,12}}(?:翻訳|質問|クエリ|言い換え|文|回答)(?:です|:|：)
    (?:물론|네)\w{{0,4}}[,!.\s]*(?:여기|다음)
    다음은\s\w{{0,12}}\s?(?:번역|질문|검색어|문장|답변)
    (?:بالتأكيد|بالطبع|حسنا|حسناً)[،,!.:\s]+(?:إليك|هذه|هذا|هنا)
    إليك\ (?:\w+\ ){{0,2}}(?:ترجمة|الترجمة|سؤال|السؤال|إجابة)
    (?:ज़रूर|जरूर|निश्चित\ रूप\ से|बिल्कुल)[,!।:\s]+यहा[ँं]
    यहा[ँं]\ (?:\w+\ ){{0,4}}(?:अनुवाद|प्रश्न|उत्तर)
    (?:tabii(?:\ ki)?|elbette)\b[,!.:\s]+(?:işte|i̇şte)\b
    (?:işte|i̇şte)\ (?:\w+\ ){{0,3}}(?:çeviri|çevirisi|soru|sorgu|cevap)\b
    (?:tentu(?:\ saja)?|baik)\b[,!.:\s]+(?:berikut|ini)\b
    berikut\ (?:ini\ )?adalah\ (?:\w+\ ){{0,2}}(?:terjemahan|pertanyaan|jawaban|kueri)\b
    (?:chắc\ chắn|tất\ nhiên|được\ rồi)[,!.:\s]+(?:đây|dưới\ đây)\b
    (?:แน่นอน|ได้เลย)\S{{0,4}}[\s,]*(?:นี่คือ|ต่อไปนี้)
"""
_HELP = (
    "help|assist|provide|fulfil|fulfill|comply|generate|translate|answer|create|write|complete|continue|process|do that"
)
_REFUSALS = rf"""
    as\ an?\ (?:ai|artificial\ intelligence|language\ model|large\ language\ model)\b
    i(?:'m|\ am)\ (?:just\ |only\ )?an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b
    i(?:'m|\ am)\ (?:very\ |really\ )?sorry[,.]?\ (?:but\ )?(?:i\ (?:can't|cannot|can\ not)|i(?:'m|\ am)\ (?:unable|not\ able))\ (?:to\ )?(?:{_HELP})\b
    i\ (?:can't|cannot|can\ not)\ (?:assist|provide|fulfil|fulfill|comply|generate|translate)\b
    i(?:'m|\ am)\ (?:unable|not\ able)\ to\ (?:assist|provide|fulfil|fulfill|comply|generate|translate)\b
    (?:the|this)\ (?:given\ |provided\ )?(?:passage|text|document)\ (?:does\ not|doesn't)\ (?:contain|provide|mention|include|give|state)\b
    (?:lo\ siento|disculpa|perdón)[,.]?\ (?:pero\ )?no\ puedo\ (?:ayudar|proporcionar|cumplir|generar|traducir|responder)
    como\ (?:una?\ )?(?:ia|inteligencia\ artificial|modelo\ de\ lenguaje|inteligência\ artificial|modelo\ de\ linguagem)\b
    (?:je\ suis\ )?désolée?[,.]?\ (?:mais\ )?je\ ne\ (?:peux|suis)\ pas\ (?:en\ mesure\ )?(?:de\ |d')?(?:vous\ )?(?:aider|fournir|traduire|répondre|générer)
    en\ tant\ (?:qu'(?:ia|intelligence)|que\ modèle\ de\ langage)
    (?:es\ )?tut\ mir\ leid[,.]?\ (?:aber\ )?ich\ kann\ (?:\w+\ ){{0,5}}(?:helfen|bereitstellen|übersetzen|beantworten|erstellen|erfüllen)
    als\ (?:ki|künstliche\ intelligenz|sprachmodell)\b
    (?:desculpe|sinto\ muito)[,.]?\ (?:mas\ )?não\ posso\ (?:ajudar|fornecer|traduzir|responder|gerar|cumprir)
    (?:извините|простите|к\ сожалению)[,.]?\ (?:но\ )?я\ не\ могу\ (?:помочь|предоставить|перевести|ответить|выполнить|создать)
    (?:как|я)\ (?:(?:языковая|большая\ языковая)\ модель|искусственный\ интеллект|ии)\b
    (?:很抱歉|抱歉|对不起|對不起)[，,。\s]*(?:但)?我(?:无法|無法|不能)(?:提供|回答|翻译|翻譯|帮助|幫助|生成|完成|满足|协助)
    (?:作为|作為)(?:一个|一個|一名)?(?:ai|人工智能|人工智慧|语言模型|語言模型|大型)
    (?:申し訳(?:ありません|ございません)|すみません)\w{{0,3}}[、,。\s]*\w{{0,20}}(?:お答え|提供|翻訳|回答|お手伝い|生成)\w{{0,6}}(?:できません|できかねます)
    (?:죄송하지만|죄송합니다)[,.\s]*(?:\w+\s){{0,5}}(?:제공|번역|답변|도와|생성)\w{{0,4}}\s?(?:수\s없|없)
    (?:آسف|عذرا|عذراً|أعتذر)[،,.\s]+(?:ولكن\ |لكن\ )?(?:لا\ أستطيع|لا\ يمكنني)\ (?:مساعد|تقديم|ترجم|الإجابة|إنشاء|توفير)
    (?:माफ़\ कीजिए|माफ\ कीजिए|क्षमा\ करें|मुझे\ खेद\ है)[,।\s]+(?:लेकिन\ )?मैं\ (?:\S+\ ){{0,6}}नहीं\ (?:कर|दे)\ सकत[ाी]
    (?:üzgünüm|maalesef)[,.]?\ (?:ama\ |ancak\ )?(?:\w+\ ){{0,4}}(?:yardımcı\ olamam|sağlayamam|çeviremem|yanıtlayamam)
    maaf[,.]?\ (?:tetapi\ |tapi\ )?saya\ tidak\ (?:dapat|bisa)\ (?:membantu|memberikan|menerjemahkan|menjawab|membuat|memenuhi)
    (?:xin\ lỗi|rất\ tiếc)[,.]?\ (?:nhưng\ )?tôi\ không\ thể\ (?:giúp|cung\ cấp|dịch|trả\ lời|tạo)
"""


def _either(lines: str) -> str:
    return "|".join(line for line in map(str.strip, lines.splitlines()) if line)


_FLAGS = regex.IGNORECASE | regex.VERBOSE
_TEMPLATE = regex.compile(
    r"<\u2060?\|[^|<>\n]{1,64}\|>|</?think>|</?s>|<(?:start|end)_of_turn>|\[\u2060?/?INST\]|<</?SYS>>|\[/?SYSTEM_PROMPT\]"
    r"|\{\{\s*\w+\s*\}\}",
    regex.IGNORECASE,
)
_LABEL = regex.compile(
    rf"(?:^|\n)[\s*#_\"'「>-]*(?:(?:{_either(_LABELS)})(?:\s?\d{{1,2}})?[*_\"]*\s*[:：])",
    regex.IGNORECASE,
)
_ROLE = regex.compile(rf"^[\s*#]*(?:{_ROLES})\s*(?::|\n)|\n\s*(?:{_ROLES})\s*(?::|$)", regex.IGNORECASE)
_FENCE = regex.compile(r"```|^\s*#{1,6}\s\w|^\*\*[^*]+\*\*\s*:?\s*\n")
_LIST = regex.compile(
    r"^\s*\(?1[.)]\s+\S[^\n]*\n\s*\(?2[.)]\s|\n\s*\(?\d{1,2}[.)]\s+\S|(?:^|\n)\s*[-*•]\s[^\n]+\n\s*[-*•]\s"
)
_OPENER = regex.compile(rf"^[\s\"'*]*(?:{_either(_OPENERS)})", _FLAGS)
_REFUSAL = regex.compile(rf"^[\s\"'*]*(?:{_either(_REFUSALS)})", _FLAGS)

_MARKS = regex.compile(r"[<\[{:：\n`#*]")

_Signs: TypeAlias = Sequence[tuple[str, "regex.Pattern[str]"]]
_AT_START: _Signs = (("refusal", _REFUSAL), ("chatter", _OPENER))
_AT_MARKS: _Signs = (
    ("template_token", _TEMPLATE),
    ("chatter", _LABEL),
    ("chatter", _ROLE),
    ("chatter", _FENCE),
    ("chatter", _LIST),
)
_ALL: _Signs = (*_AT_START, *_AT_MARKS)


class Chatter(Check):
    """The written side is the text asked for and no more. Reasons: template_token, refusal, chatter."""

    kind: Literal["chatter"] = "chatter"

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        return _chatter


def _chatter(pair: Pair) -> Fault | None:
    text = _straight(written(pair))
    for reason, sign in _ALL if _MARKS.search(text) else _AT_START:
        found = sign.search(text)
        if found and (pair.task == "retrieval" or not sign.search(_straight(real(pair)))):
            return fault(reason, f"{found[0].strip()!r}: {text}")
    return None


def _straight(text: str) -> str:
    return text.replace("’", "'")
