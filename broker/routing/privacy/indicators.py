"""Words and paths that make a request private though no secret stands there: the owner's rule, and a stricter one.

Rule: one word is enough, in whatever language the owner writes it, in any of its forms and wherever it stands; so is
one path of a home, a drive or a share, for it says whose machine it is and what is there. No context takes it back:
whoever finds that too strict names another rule, and marks keys, sessions and aliases instead.
"""

import re
from enum import StrEnum

from broker.routing.privacy.local_paths import ANY_PATH, LOCAL_PATHS
from broker.routing.text.literals import Finder, LiteralRules, matching, of_one_length, windows
from broker.routing.text.work import Work


class Indicators(StrEnum):
    """Which indicators make a request private."""

    OWNER = "owner"
    """The owner's words for screenshot, camera, password and credential do, and local paths."""
    STRICT = "strict"
    """More words do, every absolute path, and what tells people apart: addresses, accounts, numbers of cards."""
    OFF = "off"


class Sign(StrEnum):
    """What was found in a text: the word for the decision's reason."""

    SCREENSHOT = "word:screenshot"
    CAMERA = "word:camera"
    PASSWORD = "word:password"  # noqa: S105 - a word of ours
    CREDENTIAL = "word:credential"
    LOCAL_PATH = "local_path"
    SECRET = "word:secret"  # noqa: S105 - a word of ours
    MONEY = "word:money"
    HEALTH = "word:health"
    IDENTITY = "word:identity"
    PRIVATE = "word:private"
    RECORDING = "word:recording"
    ANY_PATH = "path:any"
    EMAIL = "number:email"
    ACCOUNT = "number:account"
    PHONE = "number:phone"
    HOST = "number:host"


_BETWEEN = r"[\s_-]{0,3}"
"""What may be between the two halves of a word: nothing, a hyphen, a line's end."""


def _words(*words: str) -> LiteralRules:
    """Make rules of beginnings of words, which plurals and cases share; a blank stands for what may be between."""
    rules = []
    for word in words:
        halves = (re.escape(half).replace("'", "['\u2019]") for half in word.split(" "))
        rules.append((word.split(" ")[0], re.compile(_BETWEEN.join(halves), re.IGNORECASE)))
    return tuple(rules)


_OWNER: tuple[tuple[Sign, LiteralRules], ...] = (
    (
        Sign.SCREENSHOT,
        _words(
            "screen shot", "screen grab", "screen cap", "screen record", "screen dump", "screen print",
            "screen clip", "print screen", "screen snip", "bildschirm foto", "bildschirm aufnahme",
            "bildschirm abbild", "bildschirm kopie", "capture d'écran", "captures d'écran", "capture d'ecran",
            "captures d'ecran", "copie d'écran", "captura de pantalla", "capturas de pantalla", "pantallazo",
            "captura de tela", "capturas de tela", "captura de ecr", "capturas de ecr", "schermata", "schermate",
            "cattura schermo", "scherm afbeelding", "scherm afdruk", "scherm opname", "zrzut ekranu",
            "zrzuty ekranu", "zrzutu ekranu", "skärm dump", "skärm bild", "skjerm bilde", "skjerm dump",
            "skærm billede", "skærm dump", "kuvakaappau", "näyttökuva", "snímek obrazovky", "snímky obrazovky",
            "képernyőkép", "képernyőfotó", "ekran görüntüsü", "ekran resmi", "captur de ecran", "captură de ecran",
            "скриншот", "снимок экрана", "снимки экрана", "снимке экрана", "знімок екрана", "στιγμιότυπο οθόνης",
            "لقطة شاشة", "لقطة الشاشة", "צילום מסך", "स्क्रीनशॉट", "截图", "截圖", "截屏", "屏幕快照",
            "スクリーンショット", "スクショ", "스크린샷", "화면 캡처", "ảnh chụp màn hình", "tangkapan layar",
        ),
    ),
    (
        Sign.CAMERA,
        (
            ("camera", re.compile(r"(?<!bi)(?<!uni)camera", re.IGNORECASE)),
            *_words(
                "kamera", "caméra", "cámara", "câmera", "câmara", "kamerou", "web cam", "dash cam", "body cam",
                "spy cam", "nanny cam", "camcorder", "fotoapparat", "appareil photo", "камер", "фотоаппарат",
                "κάμερα", "κάμερες", "كاميرا", "מצלמ", "कैमरा", "摄像头", "攝像頭", "相机", "相機", "攝影機",
                "摄影机", "カメラ", "카메라", "kaamera", "máy ảnh",
            ),
        ),
    ),
    (
        Sign.PASSWORD,
        _words(
            "pass word", "passwd", "pass phrase", "pass code", "p@ssw", "passw0rd", "pa$$w", "passwort",
            "passwört", "passwoert", "kennwort", "kennwört", "kennwoert", "mot de passe", "mots de passe",
            "contraseña", "contrasena", "contrasenya", "senha", "palavra passe", "parola d'ordine", "wachtwoord",
            "hasło", "hasła", "haseł", "hasłem", "haśle", "lösenord", "passord", "adgangskode", "salasana",
            "salasano", "heslo", "hesla", "hesel", "heslem", "jelszó", "jelszav", "şifre", "parolă",
            "parole de acces", "lozink", "парол", "пароль", "κωδικός πρόσβασης", "συνθηματικ", "كلمة المرور",
            "كلمة السر", "كلمات المرور", "סיסמ", "पासवर्ड", "密码", "密碼", "口令", "パスワード", "暗証番号",
            "비밀번호", "암호", "mật khẩu", "kata sandi", "รหัสผ่าน",
        ),
    ),
    (
        Sign.CREDENTIAL,
        _words(
            "credential", "zugangsdaten", "anmeldedaten", "anmeldeinformation", "logindaten",
            "identifiants de connexion", "informations d'identification", "credencia", "credenzial",
            "inloggegeven", "toegangsgegeven", "dane logowania", "danych logowania", "poświadcze",
            "inloggningsuppgift", "login oplysning", "innloggings", "kirjautumistied", "přihlašovací údaj",
            "přihlašovacích údaj", "kimlik bilgileri", "учетные данные", "учётные данные", "учетных данн",
            "учётных данн", "облікові дані", "διαπιστευτήρι", "بيانات الاعتماد", "凭据", "凭证", "憑證",
            "認証情報", "資格情報", "자격 증명",
        ),
    ),
    (Sign.LOCAL_PATH, LOCAL_PATHS),
)  # fmt: skip

_WORD = r"(?<![^\W_]){}(?![^\W_])"


def _whole(*words: str) -> LiteralRules:
    """Make rules of words that say something only where they stand alone; a final ``*`` stands for any ending."""
    rules = []
    for word in words:
        body = re.escape(word.removesuffix("*")).replace(r"\ ", r"[\s_-]{1,3}") + (r"\w*" if word.endswith("*") else "")
        rules.append((word.removesuffix("*").split(" ")[0], re.compile(_WORD.format(body), re.IGNORECASE)))
    return tuple(rules)


_STRICT: tuple[tuple[Sign, LiteralRules], ...] = (
    (Sign.SECRET, _whole("secret*", "api key*", "apikey*", "access token*", "private key*", "login*", "pin code*",
        "recovery code*", "seed phrase*", "geheim*", "clave*", "секрет*", "two-factor*", "2fa", "otp")),
    (Sign.MONEY, _whole("bank account*", "bank statement*", "iban", "credit card*", "debit card*", "salar*", "payslip*",
        "tax return*", "invoice*", "mortgage*", "gehalt*", "kontoauszug*", "rechnung*", "steuererklärung*",
        "kreditkarte*")),
    (Sign.HEALTH, _whole("diagnos*", "patient*", "medical record*", "medication*", "prescription*", "therap*", "diary",
        "diaries", "krankheit*", "arzt*", "rezept*", "tagebuch*")),
    (Sign.IDENTITY, _whole("passport*", "social security*", "date of birth", "driver's license*", "driving licence*",
        "home address*", "birth certificate*", "personalausweis*", "reisepass*", "geburtsdatum*", "ssn")),
    (Sign.PRIVATE, _whole("confidential*", "private*", "personal*", "do not share", "vertraulich*", "privat*",
        "nda", "internal only")),
    (Sign.RECORDING, _whole("photo*", "selfie*", "microphone*", "voice memo*", "recording*", "video*", "mikrofon*",
        "aufnahme*")),
    (Sign.ANY_PATH, ANY_PATH),
    (Sign.EMAIL, (("@", re.compile(r"(?<=[\w.+-])@[\w-]{1,64}(?:\.[\w-]{1,64}){1,6}")),)),
)  # fmt: skip
_NUMBERS = (
    (Sign.ACCOUNT, re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")),
    (Sign.ACCOUNT, re.compile(r"(?<![\w.-])\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}(?![\w.-])")),
    (Sign.ACCOUNT, re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")),
    (Sign.PHONE, re.compile(r"(?<![\w+])\+\d{1,3}[ ()-]{0,2}\d(?:[ ()-]{0,2}\d){6,11}(?!\w)")),
    (
        Sign.HOST,
        re.compile(r"(?<![\w.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01])|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))"
                   r"\.\d{1,3}\.\d{1,3}(?![\w.])"),
    ),
    (Sign.HOST, re.compile(r"(?<=[a-z\d])\.(?:local|lan|home\.arpa|internal|fritz\.box)(?![\w.-])")),
)  # fmt: skip


def _finder(*rules: tuple[Sign, LiteralRules]) -> Finder[Sign]:
    return Finder((sign, literal, check) for sign, of_sign in rules for literal, check in matching(of_sign))


_FINDERS = {
    Indicators.OWNER: _finder(*_OWNER),
    Indicators.STRICT: _finder(*_OWNER, *_STRICT),
    Indicators.OFF: _finder(),
}


def sign_in(text: str, indicators: Indicators, work: Work) -> Sign | None:
    """Find the first sign in a text that the rule knows; None: there is none.

    Raises:
        TooCostlyError: The text would take more work than it may.
    """
    if indicators is Indicators.OFF:
        return None
    finder, text = _FINDERS[indicators], "\n" + of_one_length(text)  # something stands before whatever begins it
    for begin, lower in windows(text, work):
        if sign := finder.find_in(text, begin, lower, work):
            return sign
        if indicators is Indicators.STRICT and (number := _number_in(text, begin, begin + len(lower))):
            return number
    return None


def _number_in(text: str, begin: int, end: int) -> Sign | None:
    return next((sign for sign, pattern in _NUMBERS if pattern.search(text, begin, end)), None)
