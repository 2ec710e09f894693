"""What shells write when a signal ends a program, in other languages than English.

glibc 2.36's own translations, as Debian's libc-l10n 2.36 holds them (shells print what `strsignal` returns), and words that
were seen in reports.  A word counts where it stands as shells write it: alone on its line, after a colon, or after a process
ID; what follows it is nothing, a word in brackets, or spaces and the command.
"""

from typing import Dict, Iterator, Tuple

WORDS: Dict[str, Tuple[str, ...]] = {
    "SIGSEGV": (
        "Збой сэгмэнтацыі", "Нарушение на разделянето", "Violació de segment", "Neoprávněný přístup do paměti",
        "Segmentfejl", "Speicherzugriffsfehler", "Σφάλμα κατάτμησης", "Adres-eraro", "Violación de segmento",
        "Muistialueen ylitys", "Erreur de segmentation", "Fallo de segmento", "Segmentacijska greška",
        "Szegmentálási hiba", "Kerusakan segmentasi", "Errore di segmentazione", "세그멘테이션 오류",
        "Segmentavimo klaida", "Minnesegmentsfeil", "Segmentatiefout", "Naruszenie ochrony pamięci",
        "Falta de segmentação", "Falha de segmentação", "Ошибка сегментирования", "Chyba segmentácie",
        "Napaka segmentacije", "Неуспех сегментације", "Segmenteringsfel", "Parçalama arızası", "Помилка адресування",
        "Lỗi phân đoạn", "段错误", "程式記憶體區段錯誤", "Fallo de segmentación", "セグメンテーション違反",
        "세그멘테이션 결함", "Ошибка сегментации", "分段错误", "Segmenteringsfejl", "Segmentation fault です",
    ),
    "SIGILL": (
        "Недапушчальнае прадпісаньне", "Незаконна инструкция", "La instrucció no és permesa", "Nedovolená instrukce",
        "Ulovlig instruktion", "Ungültiger Maschinenbefehl", "Ακατάλληλη εντολή", "Miskomando", "Instrucción ilegal",
        "Virheellinen käsky", "Instruction non permise", "Instrucción non permitida", "Nepropisna instrukcija",
        "Érvénytelen utasítás", "Instruksi tidak legal", "Istruzione non consentita", "명령어가 잘못됨",
        "Netaisyklinga instrukcija", "Ulovlig instruksjon", "Ongeldige instructie", "Błędna instrukcja",
        "Instrução ilegal", "Недопустимая инструкция", "Neprípustná inštrukcia", "Nedovoljen ukaz",
        "Неисправна инструкција", "Otillåten instruktion", "Yönerge kuraldışı", "Помилкова інструкція",
        "Chỉ lệnh không hợp lệ", "非法指令", "無效指令", "不正な命令", "잘못된 명령어",
    ),
    "SIGBUS": (
        "Памылка шыны", "Грешка на адресната шина", "Error de bus", "Chyba na sběrnici (neplatná adresa)", "Busfejl",
        "Bus-Zugriffsfehler", "Σφάλμα στον δίαυλο", "Bus-eraro", "Error del bus", "Väylävirhe", "Erreur du bus",
        "Erro no bus de datos", "Sabirnička greška", "Busz hiba", "Errore di bus", "バスエラー", "버스 오류",
        "Magistralės klaida", "Bussfeil", "Busfout", "Błąd szyny", "Erro de bus", "Erro no barramento", "Ошибка шины",
        "Chyba na zbernici", "Napaka vodila", "Грешка сабирнице", "Bussfel", "Veri yolu hatası",
        "Помилка каналу обміну даними", "Lỗi bus", "总线错误", "匯流排錯誤",
    ),
    "SIGFPE": (
        "Выключэньне плыўной коскі", "Изключение при плаваща запетая", "Excepció de coma flotant",
        "Výjimka v pohyblivé řádové čárce", "Undtagelsestilfælde ved flydende taloperation", "Gleitkomma-Ausnahme",
        "Εξαίρεση κινητής υποδιαστολής", "Glitkomkalkul-eraro", "Excepción de coma flotante", "Liukulukupoikkeus",
        "Exception en point flottant", "Excepción de coma frotante", "Iznimka (broja) pomičnog zareza",
        "Lebegőpontos kivétel", "Eksepsi titik pecahan", "Eccezione in virgola mobile", "浮動小数点例外",
        "부동 소수점 예외", "Slankaus kablelio klaida", "Unntakstilfelle ved flyttallsoperasjon",
        "Drijvendekomma-berekeningsfout", "Błąd w obliczeniach zmiennoprzecinkowych", "Excepção de vírgula flutuante",
        "Exceção de ponto flutuante", "Исключение в операции с плавающей точкой", "Výnimka pohyblivej rádovej čiarky",
        "Prekoračitev plavajoče vejice", "Изузетак покретног зареза", "Flyttalsfel", "Gerçel sayı istisnası",
        "Помилка обчислень з рухомою комою", "Ngoại lệ dấu chấm động", "浮点数例外", "浮點數例外", "浮点异常",
        "浮点数异常", "浮动小数点例外",
    ),
    "SIGKILL": (
        "Забіты", "Безусловно прекъснат", "Matat", "Zabit", "Dræbt", "Getötet", "Σκοτώθηκε", "Buĉita",
        "Terminado (killed)", "Tapettu", "Processus arrêté", "Matado", "Ubijen", "Kilőve", "Terbunuh", "Ucciso",
        "強制終了", "죽었음", "Drept", "Geëlimineerd", "Unicestwiony", "Morto", "Убито", "Zabitý", "Pobit", "Убијен",
        "Dödad", "Süreç durduruldu", "Вбито", "Bị buộc kết thúc", "已杀死", "強制結束", "被杀死",
    ),
    "SIGABRT": (
        "Прекъснат", "Avortat", "Neúspěšně ukončen", "Afbrudt (SIGABRT)", "Abgebrochen", "Ακυρώθηκε", "Abortita", "Abortado",
        "Keskeytetty", "Abandon", "Prekid", "Félbeszakítva", "Dibatalkan", "Annullato", "中止", "중지됨", "Avbrutt (SIGABRT)",
        "Afgebroken", "Przerwane", "Аварийный останов", "Zrušené", "Prekinjen", "Прекинуто", "Avbruten (SIGABRT)", "İptal edildi",
        "Перервано", "Bị hủy bỏ", "已放弃", "中止しました",
    ),
}  # fmt: skip
_TRIES = 50  # places of one word that are considered


def words_at(text: str) -> Iterator[Tuple[str, int]]:
    """Yield (signal, offset) of each word that stands in `text` as shells write it."""
    for name, words in WORDS.items():
        for word in words:
            at = text.find(word)
            for _ in range(_TRIES):
                if at < 0:
                    break
                if _stands_alone(text, at, at + len(word)):
                    yield name, at
                at = text.find(word, at + len(word))


def _stands_alone(text: str, begin: int, end: int) -> bool:
    before = text[max(text.rfind("\n", 0, begin) + 1, begin - 200) : begin].rstrip()
    line_end = text.find("\n", end)
    after = text[end : min(line_end if line_end >= 0 else len(text), end + 40)]
    follows = not after.strip() or after.startswith(("  ", " (", "(", "（", " （", "\t"))
    return follows and (not before or before[-1] in ":：" or before[-1].isdigit())
