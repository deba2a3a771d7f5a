//! The people of Seoul and where they go.

/// A language that the demo speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Lang {
    /// 한국어.
    Ko,
    /// English.
    #[default]
    En,
}

impl Lang {
    /// Its BCP 47 tag.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Lang::Ko => "ko",
            Lang::En => "en",
        }
    }
}

/// A name in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    en: &'static str,
    ko: &'static str,
}

impl Words {
    /// The name in one of them.
    pub(super) fn said_in(self, lang: Lang) -> &'static str {
        match lang {
            Lang::Ko => self.ko,
            Lang::En => self.en,
        }
    }
}

/// A place that everybody knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spot {
    /// What it is called.
    pub(super) name: Words,
    /// Degrees north.
    pub(super) latitude: f64,
    /// Degrees east.
    pub(super) longitude: f64,
}

const fn spot(en: &'static str, ko: &'static str, latitude: f64, longitude: f64) -> Spot {
    Spot { name: Words { en, ko }, latitude, longitude }
}

const fn name(en: &'static str, ko: &'static str) -> Words {
    Words { en, ko }
}

/// Where people are picked up and where they want to go.
pub(super) const SPOTS: [Spot; 22] = [
    spot("Gangnam Station", "강남역", 37.4979, 127.0276),
    spot("Seoul Station", "서울역", 37.5547, 126.9707),
    spot("City Hall", "서울시청", 37.5663, 126.9779),
    spot("Gwanghwamun", "광화문", 37.5759, 126.9769),
    spot("Hongik Univ. Station", "홍대입구역", 37.5572, 126.9245),
    spot("Itaewon Station", "이태원역", 37.5345, 126.9946),
    spot("Myeong-dong", "명동", 37.5609, 126.9863),
    spot("Jamsil Station", "잠실역", 37.5133, 127.1001),
    spot("Yeouido Station", "여의도역", 37.5216, 126.9243),
    spot("Gimpo Airport", "김포공항", 37.5587, 126.7945),
    spot("Misa Station", "미사역", 37.5631, 127.1930),
    spot("Seongsu Station", "성수역", 37.5446, 127.0559),
    spot("Sinchon Station", "신촌역", 37.5552, 126.9369),
    spot("Dongdaemun Design Plaza", "동대문디자인플라자", 37.5665, 127.0092),
    spot("COEX", "코엑스", 37.5118, 127.0592),
    spot("Express Bus Terminal", "고속터미널", 37.5049, 127.0050),
    spot("Yongsan Station", "용산역", 37.5299, 126.9648),
    spot("Wangsimni Station", "왕십리역", 37.5612, 127.0371),
    spot("Konkuk Univ. Station", "건대입구역", 37.5404, 127.0692),
    spot("N Seoul Tower", "남산서울타워", 37.5512, 126.9882),
    spot("Sadang Station", "사당역", 37.4766, 126.9816),
    spot("Bukchon Hanok Village", "북촌한옥마을", 37.5826, 126.9831),
];

/// What riders are called; when there are more riders than names, they are numbered.
pub(super) const NAMES: [Words; 20] = [
    name("Minji", "민지"),
    name("Jisoo", "지수"),
    name("Seojun", "서준"),
    name("Haeun", "하은"),
    name("Doyun", "도윤"),
    name("Yuna", "유나"),
    name("Jiho", "지호"),
    name("Sumin", "수민"),
    name("Minjun", "민준"),
    name("Chaewon", "채원"),
    name("Hyunwoo", "현우"),
    name("Eunji", "은지"),
    name("Taeyang", "태양"),
    name("Nari", "나리"),
    name("Junho", "준호"),
    name("Boram", "보람"),
    name("Woojin", "우진"),
    name("Soyeon", "소연"),
    name("Dahye", "다혜"),
    name("Sangmin", "상민"),
];
