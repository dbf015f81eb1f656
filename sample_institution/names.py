"""Names of people and groups in the scripts that the institution's branches write."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

FEMALE, MALE = "Female", "Male"


@dataclass(frozen=True, slots=True)
class Names:
    """Given and family names of one script. Not every name is split in three, nor has a family name."""

    female: tuple[str, ...]
    male: tuple[str, ...]
    family: tuple[str, ...]
    family_first: bool = False

    def pick(self, random: Random) -> tuple[str, str, str | None, str]:
        """Gender, first, middle and last name."""
        gender = FEMALE if random.random() < 0.62 else MALE
        given = self.female if gender == FEMALE else self.male
        middle = random.choice(self.male) if random.random() < 0.15 else None
        return gender, random.choice(given), middle, random.choice(self.family)

    def display(self, first: str, middle: str | None, last: str) -> str:
        """The name as it is written in full."""
        parts = (last, first) if self.family_first else (first, middle, last)
        return ("" if self.family_first else " ").join(part for part in parts if part)


EAST_AFRICAN = Names(
    ("Wanjiku", "Akinyi", "Nafula", "Mwende", "Halima", "Chebet", "Zawadi", "Njeri"),
    ("Otieno", "Kamau", "Barasa", "Mutiso", "Juma", "Kiprop", "Baraka", "Ouma"),
    ("Mwangi", "Odhiambo", "Wekesa", "Kilonzo", "Ng’ang’a", "Cheruiyot", "Achieng’", "O’Kello"),
)
GANDA = Names(
    ("Nakato", "Namukasa", "Babirye", "Apio", "Nansubuga", "Birungi"),
    ("Kato", "Ssemakula", "Wasswa", "Okot", "Mugisha", "Tumusiime"),
    ("Nalwanga", "Ssebunya", "Okello", "Byaruhanga", "Kyomuhendo", "Lubega"),
)
WEST_AFRICAN = Names(
    ("Aïssatou", "Fatoumata", "Ndèye", "Thérèse", "Zoé", "Khadidjatou", "Aminata", "Cécile"),
    ("Moussa", "Théophile", "Ibrahima", "François", "Cheikh", "Gérôme", "Abdoulaye", "Noël"),
    ("N’Diaye", "Sène", "Dièye", "Coulibaly", "Traoré", "Guèye", "Sarr", "Kéïta"),
)
ARABIC = Names(
    ("فاطمة", "أميرة", "خديجة", "سلمى", "نور الهدى", "مريم", "هالة"),
    ("محمد", "أحمد", "يوسف", "عبد الرحمن", "الحبيب", "إسماعيل", "سامي"),
    ("بن عمر", "الطرابلسي", "الجبالي", "بوعزيزي", "الشريف", "القاسمي", "المنصوري"),
)
AMHARIC = Names(
    ("አልማዝ", "ትዕግስት", "ሰላማዊት", "መሠረት", "ብርቱካን", "ሂሩት"),
    ("አበበ", "ገብረ", "ተስፋዬ", "ዮሐንስ", "ሙሉጌታ", "ኃይለ"),
    ("ከበደ", "ወልደማርያም", "አሰፋ", "ታደሰ", "ገብረሥላሴ", "በቀለ"),
)
DEVANAGARI = Names(
    ("सीता", "लक्ष्मी", "प्रियंका", "अनीता", "कौशल्या", "ऋतु"),
    ("राम", "विश्वनाथ", "अर्जुन", "सुरेश", "कृष्ण", "प्रह्लाद"),
    ("शर्मा", "यादव", "मिश्रा", "श्रेष्ठ", "सिंह", "त्रिपाठी"),
)
BENGALI = Names(
    ("রহিমা", "সুলতানা", "শর্মিষ্ঠা", "নাসরীন", "মৌসুমী", "আয়েশা"),
    ("করিম", "রফিকুল", "অমিত", "জাহাঙ্গীর", "সৌরভ", "আব্দুল"),
    ("বেগম", "চৌধুরী", "হোসেন", "মণ্ডল", "আক্তার", "বিশ্বাস"),
)
CYRILLIC = Names(
    ("Айгүл", "Нұргүл", "Оксана", "Ђурђица", "Жылдыз", "Щедрина"),
    ("Бакыт", "Нұрлан", "Юрій", "Ёрбек", "Љубомир", "Эркин"),
    ("Асанова", "Жээнбеков", "Їжакевич", "Төлөгөнов", "Хаџић", "Ысманов"),
)
CHINESE = Names(
    ("秀英", "婷婷", "玉兰", "思琪", "麗華", "㛃"),
    ("偉強", "建国", "志明", "浩然", "永福", "磊"),
    ("王", "李", "欧阳", "陳", "赵", "司马"),
    family_first=True,
)
LATIN_AMERICAN = Names(
    ("María José", "Guadalupe", "Ñusta", "Inês", "Conceição", "Begoña"),
    ("José Ángel", "Raúl", "Iñaki", "João", "Óscar", "Martín"),
    ("Núñez Quispe", "Peña", "Gonçalves", "Ibáñez", "Müller", "Etxeberria"),
)

GROUPS = (
    "Umoja Women’s Group",
    "Coopérative Maraîchère de Thiès",
    "تعاونية الزيتون",
    "सहारा स्वयं सहायता समूह",
    "মৈত্রী সমিতি",
    "የእድገት ማኅበር",
    "Кооператив «Береке»",
    "福星貿易行",
    "Tailors & Sons <Ltd.>",
    "Boda-Boda Savings “Speed” Association",
)
"""Entities; some carry quotes, ampersands and angle brackets, which devices must show as they are."""
