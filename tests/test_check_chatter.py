"""Chatter: wordings written before the tables were, which only share words with them, and what people write that looks alike."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import TASKS, Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.chatter import Chatter

PASSAGE = (
    "The lighthouse was built in 1862 by a company of masons from Galway, who carried every stone of it over the sands "
    "at low tide. It burned rape oil, then paraffin, and since 1934 it has been lit by electricity."
)
CONTEXT = Context({}, {}, {}, Path())

QUERIES = {
    "en": "who built the lighthouse near Galway",
    "es": "¿Quién construyó el faro cerca de Galway?",
    "fr": "Qui a construit le phare près de Galway ?",
    "de": "Wer hat den Leuchtturm bei Galway gebaut?",
    "pt": "Quem construiu o farol perto de Galway?",
    "it": "Chi ha costruito il faro vicino a Galway?",
    "nl": "Wie bouwde de vuurtoren bij Galway?",
    "af": "Wie het die vuurtoring naby Galway gebou?",
    "pl": "Kto zbudował latarnię morską koło Galway?",
    "cs": "Kdo postavil maják u Galway?",
    "sk": "Kto postavil maják pri Galway?",
    "sl": "Kdo je zgradil svetilnik pri Galwayu?",
    "hr": "Tko je sagradio svjetionik kod Galwaya?",
    "sr": "Ко је саградио светионик код Голвеја?",
    "bg": "Кой е построил фара край Голуей?",
    "ru": "Кто построил маяк возле Голуэя?",
    "uk": "Хто збудував маяк біля Голвея?",
    "ro": "Cine a construit farul de lângă Galway?",
    "ca": "Qui va construir el far prop de Galway?",
    "gl": "Quen construíu o faro preto de Galway?",
    "eu": "Nork eraiki zuen Galway ondoko itsasargia?",
    "el": "Ποιος έχτισε τον φάρο κοντά στο Γκόλγουεϊ;",
    "hu": "Ki építette a Galway melletti világítótornyot?",
    "fi": "Kuka rakensi majakan lähelle Galwayta?",
    "et": "Kes ehitas tuletorni Galway lähedale?",
    "lt": "Kas pastatė švyturį prie Golvėjaus?",
    "lv": "Kas uzcēla bāku pie Golvejas?",
    "sv": "Vem byggde fyren nära Galway?",
    "da": "Hvem byggede fyrtårnet ved Galway?",
    "no": "Hvem bygde fyret ved Galway?",
    "is": "Hver byggði vitann nálægt Galway?",
    "tr": "Galway yakınındaki deniz fenerini kim yaptı?",
    "az": "Qolvey yaxınlığındakı mayakı kim tikib?",
    "kk": "Голуэй маңындағы маякты кім салған?",
    "uz": "Golvey yaqinidagi mayoqni kim qurgan?",
    "ar": "من بنى المنارة قرب غالواي؟",
    "fa": "چه کسی فانوس دریایی نزدیک گالوی را ساخت؟",
    "he": "מי בנה את המגדלור ליד גולוויי?",
    "ur": "گالوے کے قریب مینار کس نے بنایا؟",
    "hi": "गॉलवे के पास लाइटहाउस किसने बनाया?",
    "mr": "गॉलवेजवळचा दीपस्तंभ कोणी बांधला?",
    "bn": "গলওয়ের কাছের বাতিঘর কে বানিয়েছিল?",
    "ta": "கால்வே அருகே உள்ள கலங்கரை விளக்கத்தை யார் கட்டினார்?",
    "te": "గాల్వే దగ్గర లైట్‌హౌస్‌ను ఎవరు కట్టారు?",
    "zh": "谁在戈尔韦附近建造了灯塔？",
    "ja": "ゴールウェイ近くの灯台は誰が建てたのか",
    "ko": "골웨이 근처의 등대는 누가 지었나",
    "th": "ใครเป็นผู้สร้างประภาคารใกล้กับกัลเวย์",
    "vi": "Ai đã xây ngọn hải đăng gần Galway?",
    "id": "Siapa yang membangun mercusuar di dekat Galway?",
    "ms": "Siapakah yang membina rumah api berhampiran Galway?",
    "tl": "Sino ang nagtayo ng parola malapit sa Galway?",
    "sw": "Nani alijenga mnara wa taa karibu na Galway?",
    "ka": "ვინ ააშენა შუქურა გოლუეისთან?",
    "hy": "Ո՞վ է կառուցել փարոսը Գոլուեյի մոտ։",
    "ne": "गलवे नजिकको दीपस्तम्भ कसले बनायो?",
    "am": "በጎልዌይ አቅራቢያ ያለውን ፋና ማን ሠራው?",
}

HELD_OUT = """
en|Sure thing! Here's a search query someone might type:¶¶{}
en|Absolutely, I'd be glad to help. A good query would be: {}
en|Below is a concise query that fits the passage:¶{}
en|Based on the passage, one might ask: {}
en|One possible search query is "{}"
en|I've written the following question for you: {}
en|Query (en): {}
en|Final answer: {}
en|Okay, so the user wants a search query. {}
en|Let me think about what this passage answers. {}
en|{}¶¶This query is answered by the passage.
en|{}¶¶Let me know if you'd like any changes!
en|{} (Note: this question focuses on the main point.)
en|Generated query - {}
en|The rewritten sentence: {}
en|A user looking for this passage could type: {}
en|{}¶Explanation: The passage states this directly.
en|Understood! Here's the question: {}
en|According to the text provided, {}
en|Output: {}
es|¡Por supuesto! A continuación te presento una consulta: {}
es|Aquí va una posible búsqueda:¶{}
es|Una consulta adecuada sería: "{}"
es|Consulta de búsqueda: {}
es|{}¶¶Espero que te sea útil.
es|Según el pasaje, {}
fr|Bien entendu ! Voici une recherche possible :¶¶{}
fr|Une requête pertinente pourrait être : « {} »
fr|Requête de recherche : {}
fr|{}¶¶N'hésitez pas à me demander d'autres questions.
de|Selbstverständlich! Eine passende Suchanfrage wäre: {}
de|Gern! Hier eine mögliche Frage:¶{}
de|Suchanfrage: {}
de|{}¶¶Ich hoffe, das hilft Ihnen weiter!
de|Basierend auf dem Text: {}
pt|Com prazer! Segue uma pergunta baseada no texto:¶{}
pt|Consulta de pesquisa: {}
pt|Uma possível pergunta seria: {}
it|Ecco una possibile query di ricerca:¶{}
it|Volentieri! La domanda potrebbe essere: {}
it|Query di ricerca: {}
nl|Natuurlijk! Hier is een zoekopdracht:¶{}
nl|Zoekvraag: {}
nl|Een mogelijke zoekvraag is: {}
af|Natuurlik! Hier is 'n soekvraag: {}
pl|Oczywiście! Oto zapytanie:¶{}
pl|Zapytanie: {}
pl|Na podstawie tekstu: {}
cs|Jistě! Zde je dotaz:¶{}
cs|Vyhledávací dotaz: {}
sk|Samozrejme, tu je otázka: {}
sl|Seveda! Tukaj je vprašanje: {}
hr|Naravno! Evo upita: {}
sr|Наравно! Ево упита: {}
bg|Разбира се! Ето заявката: {}
ru|Разумеется! Вот пример поискового запроса:¶{}
ru|Поисковый запрос: {}
ru|На основе текста можно задать вопрос: {}
uk|Звичайно! Ось можливий запит: {}
uk|Пошуковий запит: {}
ro|Desigur! Iată o întrebare: {}
ca|És clar! Aquí tens una consulta: {}
gl|Claro! Velaquí unha consulta: {}
eu|Noski! Hona hemen galdera bat: {}
el|Φυσικά! Ορίστε ένα ερώτημα: {}
el|Ερώτημα αναζήτησης: {}
hu|Természetesen! Íme egy keresési kérdés: {}
fi|Totta kai! Tässä on hakukysely: {}
et|Muidugi! Siin on päring: {}
lt|Žinoma! Štai užklausa: {}
lv|Protams! Lūk, vaicājums: {}
sv|Självklart! Här är en sökfråga: {}
da|Selvfølgelig! Her er et spørgsmål: {}
no|Klart det! Her er et mulig søk: {}
is|Auðvitað! Hér er spurning: {}
tr|Elbette, bir arama sorgusu: {}
tr|Arama sorgusu: {}
az|Əlbəttə! Budur sorğu: {}
kk|Әрине! Міне сұрақ: {}
uz|Albatta! Mana savol: {}
ar|بكل سرور! إليك استعلام البحث:¶{}
ar|الاستعلام: {}
fa|حتماً! این یک پرسش مناسب است: {}
he|בוודאי! הנה שאילתה: {}
ur|ضرور! یہ رہا سوال: {}
hi|बिल्कुल! नीचे एक खोज प्रश्न दिया गया है: {}
hi|खोज क्वेरी: {}
mr|नक्कीच! हा प्रश्न पहा: {}
bn|অবশ্যই! এখানে একটি প্রশ্ন দেওয়া হলো: {}
ta|நிச்சயமாக! இதோ ஒரு கேள்வி: {}
te|ఖచ్చితంగా! ఇదిగో ప్రశ్న: {}
zh|没问题！根据上述段落，可以提出以下问题：{}
zh|搜索查询：{}
zh|检索词：{}
zh|好的，用户需要一个查询。{}
zh|好的，這裡有一個查詢：{}
ja|承知しました。検索クエリは次のとおりです：{}
ja|検索クエリ：{}
ko|알겠습니다! 검색 쿼리는 다음과 같습니다: {}
ko|검색어: {}
th|ได้ครับ นี่คือคำค้นหา: {}
th|คำค้นหา: {}
vi|Dạ được! Câu hỏi như sau: {}
vi|Truy vấn: {}
id|Baik, ini pertanyaannya: {}
id|Kueri pencarian: {}
ms|Sudah tentu! Inilah soalan carian: {}
tl|Siyempre! Narito ang isang tanong: {}
sw|Hakika! Hili hapa swali: {}
ka|რა თქმა უნდა! აი შეკითხვა: {}
hy|Իհարկե։ Ահա հարցը՝ {}
ne|अवश्य! यहाँ प्रश्न छ: {}
am|በእርግጥ! ጥያቄው ይኸውና፦ {}
"""
"""Wordings by language, with ¶ for a line break. Bare labels aside, which are one word, none is to be added to the tables."""

HELD_OUT_REFUSALS = """
en|I'm afraid I can't produce a query for this content.
en|Sorry, but I am not able to help with that request.
en|There is not enough information in the passage to write a question.
es|Lamento no poder generar una consulta para este texto.
fr|Je regrette, mais je ne peux pas répondre à cette demande.
de|Leider kann ich diese Anfrage nicht beantworten.
pt|Infelizmente, não consigo gerar uma pergunta para isso.
it|Mi dispiace, ma non posso aiutarti con questa richiesta.
nl|Helaas kan ik niet helpen met dit verzoek.
pl|Przykro mi, ale nie mogę pomóc w tej sprawie.
ru|К сожалению, я не могу сгенерировать запрос по этому тексту.
uk|Вибачте, але я не можу допомогти з цим запитом.
tr|Üzgünüm, bu isteğe yardımcı olamıyorum.
ar|أعتذر، لا يمكنني المساعدة في هذا الطلب.
fa|متأسفم، نمی‌توانم در این مورد کمک کنم.
hi|क्षमा करें, मैं इस अनुरोध में मदद नहीं कर सकता।
zh|对不起，我不能协助完成这个请求。
ja|申し訳ありませんが、そのご依頼にはお答えできません。
ko|죄송합니다만, 그 요청은 도와드릴 수 없습니다.
vi|Rất tiếc, tôi không thể hỗ trợ yêu cầu này.
id|Mohon maaf, saya tidak dapat membantu permintaan ini.
th|ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้
sv|Tyvärr kan jag inte hjälpa till med det.
"""

HELD_OUT_SELVES = """
en|As an AI language model, I cannot browse the sea.
en|As an AI I have no lamp.
es|Como modelo de lenguaje, no tengo opinión.
pt|Como uma IA, não posso ver o farol.
de|Als KI-Sprachmodell kann ich keine Türme sehen.
nl|Als taalmodel heb ik geen mening.
it|Come intelligenza artificiale, non ho opinioni.
ru|Как языковая модель, я не имею мнения.
ru|Я языковая модель и не вижу моря.
uk|Як мовна модель, я не маю думки.
tr|Bir yapay zeka dil modeli olarak görüş bildiremem.
ko|AI 언어 모델로서 의견이 없습니다.
ko|저는 AI 모델이라 볼 수 없습니다.
zh|作为一个大型语言模型，我没有意见。
ja|AIとして、意見はありません。
"""

HUMAN = """
en|Here is the key to the lighthouse.
en|I'm sorry, I can't come tomorrow.
en|Sure, I will be there at nine.
en|what is a question mark called in Greek
en|as an airline pilot what do I earn
en|note value of a crotchet: how long is it
en|Who said: "The lamp is lit"?
en|The Hague: when did the court open
en|What does 1. FC Köln mean
en|which translation of Homer reads best
en|According to Plato, who should rule a city?
en|what rights follow from article 5 of the treaty
es|¿Por qué dijo que sí, claro?
es|Claro, mañana vuelvo con las llaves.
fr|Voici la clé du phare.
de|Hier ist der Schlüssel.
de|Klar, wir kommen gern.
de|Wie wurde die Umfrage durchgeführt: schriftlich oder mündlich?
pt|Aqui está o meu chapéu.
ru|Вот ключ от маяка.
ru|Конечно, я приду завтра.
tr|İşte anahtarın.
zh|这是谁的书？
zh|好的，我明天来。
ja|はい、明日行きます。
ko|네, 내일 가겠습니다.
ar|هذا هو المفتاح.
hi|यहाँ चाबी है।
vi|Đây là chìa khóa.
id|Baik, saya datang besok.
ru|Как искусственный интеллект изменит мир?
ru|Как языковая модель понимает текст?
uk|Як штучний інтелект змінює світ?
pt|Como IA pode ajudar na educação?
pt|Como um modelo de linguagem funciona?
it|Come IA cambia il lavoro?
tr|Bir yapay zeka modeli nasıl eğitilir?
ko|AI 모델 학습 방법
zh|作为大型企业如何纳税
de|Als KI-Entwickler arbeiten: Gehalt
en|as an ai engineer what salary
en|what are __init__ methods
en|is 2**3 less than 2**4
vi|theo văn bản số 12/2020
es|según el artículo n.º 5
fr|selon l'article R. 121 du code
mt|x'inhu l-isem tal-belt fejn twieled l-arkitett Ġorġ
"""


def pair(query: str, language: str = "en", task: Task = "retrieval") -> Pair:
    if task == "retrieval":
        return Pair("pair-1", task, "Find it", query, language, PASSAGE, "s", "en", "s", "d")
    source, of = (QUERIES["de"], "de") if language == "en" else (QUERIES["en"], "en")
    return Pair("pair-1", task, "Find it", source, of, query, "s", language, "s", "d")


def reason(judged: Pair) -> str | None:
    fault = Chatter().open(CONTEXT)(judged)
    return fault.reason if fault else None


def lines(table: str) -> list[tuple[str, str]]:
    rows = (row.split("|", 1) for row in table.strip().splitlines())
    return [(language, text.replace("¶", "\n")) for language, text in rows]


@pytest.mark.parametrize("task", ["retrieval", "bitext"])
def test_of_the_wordings_held_out_nearly_all_are_chatter(task: Task) -> None:
    kept = [
        (language, wording)
        for language, wording in lines(HELD_OUT)
        if reason(pair(wording.replace("{}", QUERIES[language]), language, task)) != "chatter"
    ]
    assert len(kept) <= 0.03 * len(lines(HELD_OUT)), kept


def test_english_chatter_is_seen_before_a_query_in_any_language() -> None:
    english = [wording for language, wording in lines(HELD_OUT) if language == "en"]
    said = [(language, wording) for language in QUERIES for wording in english]
    kept = [
        (language, wording)
        for language, wording in said
        if reason(pair(wording.replace("{}", QUERIES[language]), language)) != "chatter"
    ]
    assert len(kept) <= 0.03 * len(said), kept


def test_of_the_refusals_held_out_nearly_all_are_refusals() -> None:
    kept = [text for language, text in lines(HELD_OUT_REFUSALS) if reason(pair(text, language)) != "refusal"]
    assert len(kept) <= 1, kept


@pytest.mark.parametrize(("language", "text"), lines(HELD_OUT_SELVES))
def test_a_model_that_speaks_of_itself_is_seen(language: str, text: str) -> None:
    assert reason(pair(text, language)) == "refusal"


@pytest.mark.parametrize(
    ("query", "passage", "language"),
    [
        ("Wahlergebnis 2021: Bayern", "Das Wahlergebnis 2021 fiel in Bayern knapp aus.", "de"),
        ("Jobsuche: Tipps", "Bei der Jobsuche hilft Geduld.", "de"),
        ("Recherche d’emploi : conseils", "La recherche d'emploi demande de la patience.", "fr"),
        ("Lost in Translation: cast", "The cast of Lost in Translation is small.", "en"),
        ("Research: what is it", "Research is careful study.", "en"),
        ("Μηχανική μετάφραση: ιστορία", "Η μηχανική μετάφραση άρχισε νωρίς.", "el"),
        ("tìm kiếm việc làm: mẹo", "Tìm kiếm việc làm cần kiên nhẫn.", "vi"),
    ],
)
def test_a_query_may_name_before_a_colon_what_its_passage_is_about(query: str, passage: str, language: str) -> None:
    about = Pair("p", "retrieval", "", query, language, passage, "s", language, "s", "d")
    assert reason(pair(query, language)) == "chatter"
    assert reason(about) is None


def test_a_bare_label_is_chatter_though_its_passage_has_the_word() -> None:
    for label in ("Question", "Query", "Answer"):
        about = Pair(
            "p", "retrieval", "", f"{label}: who keeps it", "en", f"A {label} is no lamp.", "s", "en", "s", "d"
        )
        assert reason(about) == "chatter"


@pytest.mark.parametrize(("language", "query"), QUERIES.items())
def test_a_query_without_chatter_passes_in_every_language(language: str, query: str) -> None:
    assert reason(pair(query, language)) is None
    assert reason(pair(query, language, "bitext")) is None


@pytest.mark.parametrize(("language", "text"), lines(HUMAN))
def test_what_people_write_passes(language: str, text: str) -> None:
    assert reason(pair(text, language)) is None


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>", "<|im_start|>assistant", "<|eot_id|>", "<|start_header_id|>", "<start_of_turn>model", "<end_of_turn>",
        "[INST]", "[/INST]", "<<SYS>>", "</s>", "<|end|>", "<｜end▁of▁sentence｜>", "<｜Assistant｜>", "<|END_OF_TURN_TOKEN|>",
        "<|channel|>final", "<tool_call>", "</think>", "[TOOL_CALLS]", "<unk>", "[PAD]", "[MASK]", "<0x0A>", "<extra_id_0>",
        "<answer>", "{{ query }}", "<|endoftext", "▁lighthouse", "builtĠtheĠlamp", "?Ċ",
    ],
)  # fmt: skip
def test_tokens_of_chat_templates_and_tokenizers_are_seen(token: str) -> None:
    assert reason(pair(f"who built the lighthouse{token}")) == "template_token"


def test_a_query_may_name_a_token_that_its_passage_names() -> None:
    asked = pair("what does [MASK] stand for")
    about = Pair("p", "retrieval", "", asked.query, "en", "Words are hidden behind [MASK].", "s", "en", "s", "d")
    assert reason(asked) == "template_token"
    assert reason(about) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"query": "who built the lighthouse"}',
        '"query": "who built the lighthouse"',
        'who built the lighthouse"}',
        '["who built the lighthouse"]',
        "```who built the lighthouse```",
        "**who built the lighthouse**",
        "* who built the lighthouse",
        "1) who built the lighthouse",
        "1. Who built it?\n2. When was it built?",
        '"who built the lighthouse"',
        "«who built the lighthouse»",
        "「who built the lighthouse」",
        "Ħawn hi l-mistoqsija:\nwho built the lighthouse",
        "who built the lighthouse\n\nwhen was it lit",
    ],
)
def test_what_a_reply_was_wrapped_in_needs_no_words(text: str) -> None:
    assert reason(pair(text)) == "chatter"


def test_quotation_marks_that_the_sentence_has_its_paraphrase_may_have() -> None:
    spoken = Pair("p", "similarity", "", '"Light it now," said the mason.', "en", '"Light it."', "s", "en", "s", "d")
    silent = Pair("p", "similarity", "", "Light it now.", "en", '"Light it."', "s", "en", "s", "d")
    assert reason(spoken) is None
    assert reason(silent) == "chatter"


def test_the_language_says_whose_words_count() -> None:
    assert reason(pair("Svar: who built the lighthouse", "sv")) == "chatter"
    assert reason(pair("Svar: who built the lighthouse", "es")) is None


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Sure, here is a query about lighthouses", "en", "chatter"),
        ("Here's the translation you asked for", "en", "chatter"),
        ("Hint: think of the masons", "en", "chatter"),
        ("**Answer:** the masons of Galway", "en", "chatter"),
        ("Question 2", "en", "chatter"),
        ("Who built it?\nAnswer: masons", "en", "chatter"),
        ("Translation： la lumière", "en", "chatter"),
        ("user: who built it", "en", "chatter"),
        ("who built it\nassistant", "en", "chatter"),
        ("```json who built it```", "en", "chatter"),
        ("1. Who built it?\n2. When was it built?", "en", "chatter"),
        ("Claro, aquí tienes una pregunta", "es", "chatter"),
        ("Voici la traduction en français", "fr", "chatter"),
        ("Hier ist die Übersetzung", "de", "chatter"),
        ("Ответ: каменщики", "ru", "chatter"),
        ("以下是翻译：灯塔", "zh", "chatter"),
        ("翻译：灯塔建于一八六二年", "zh", "chatter"),
        ("質問：誰が建てましたか", "ja", "chatter"),
        ("다음은 번역입니다", "ko", "chatter"),
        ("السؤال: من بنى المنارة", "ar", "chatter"),
        ("उत्तर: राजमिस्त्री", "hi", "chatter"),
        ("İşte çevirisi", "tr", "chatter"),
        ("Berikut adalah terjemahan", "id", "chatter"),
        ("I'm sorry, but I can't assist with that", "en", "refusal"),
        ("As an AI language model, I have no opinion", "en", "refusal"),
        ("The passage does not mention who built it", "en", "refusal"),
        ("Lo siento, pero no puedo ayudar con eso", "es", "refusal"),
        ("抱歉，我无法提供翻译", "zh", "refusal"),
        ("who built it<|im_end|>", "en", "template_token"),
        ("[INST] who built it", "en", "template_token"),
        ("I'm sorry, I can't come tomorrow.", "en", None),
        ("Here is the key to the lighthouse.", "en", None),
        ("what is a question mark called in Greek", "en", None),
        ("as an airline pilot what do I earn", "en", None),
        ("what does 1. FC Köln mean", "en", None),
        ("note value of a crotchet: how long is it", "en", None),
    ],
)
def test_chatter_is_told_from_what_people_write(text: str, language: str, expected: str | None) -> None:
    assert reason(pair(text, language)) == expected


def test_a_translation_may_say_what_its_sentence_says() -> None:
    said, silent = (
        Pair("p", "bitext", "", source, "en", "Nota: la lámpara está caliente.", "s", "es", "s", "d")
        for source in ("Note: the lamp is hot.", "The lamp is hot.")
    )
    assert reason(said) is None
    assert reason(silent) == "chatter"


def test_chatter_in_the_language_of_the_passage_is_seen() -> None:
    asked = Pair("p", "retrieval", "", "Klar! Hier ist eine Frage: who built it", "th", PASSAGE, "s", "de", "s", "d")
    assert reason(asked) == "chatter"


@given(
    st.text(st.characters(), max_size=300), st.sampled_from(TASKS), st.sampled_from(["en", "th", "tlh", "nonsense", ""])
)
def test_any_text_in_any_language_is_judged(text: str, task: Task, language: str) -> None:
    judged = Pair("p", task, "", text, language, text, "s", language, "s", "d")
    assert reason(judged) in {None, "chatter", "refusal", "template_token"}
    assert task == "retrieval" or reason(judged) is None
