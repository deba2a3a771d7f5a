//! The words customers read, in Korean and in English.
//!
//! Data has one form in every sentence. In Korean no particle stands right behind a place or a name,
//! because its form would depend on the last sound; amounts always end in 원 and minutes in 분.

use kernel::Money;
use proto::message::v1::message::Template;

/// A language we write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Language {
    /// 한국어, for everybody who did not say otherwise.
    #[default]
    Korean,
    /// English.
    English,
}

impl Language {
    /// The language of a BCP 47 tag.
    pub(crate) fn parse(tag: &str) -> Language {
        match tag.split('-').next() {
            Some("en") => Language::English,
            _ => Language::Korean,
        }
    }

    /// Its BCP 47 tag.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Language::Korean => "ko",
            Language::English => "en",
        }
    }
}

/// Something to tell, with all that the words need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The request for a car has been received.
    AllocationRequested { destination: String },
    /// A driver has accepted and is on the way.
    AllocationApproved { driver: String },
    /// The driving has started.
    DrivingStarted { driver: String },
    /// The driving is finished: the fare, and the minutes it was counted from.
    DrivingFinished { minutes: i64, fare: Money },
    /// The fee has been taken.
    PaymentApproved { fee: Money },
    /// The payment is not settled yet: nothing was taken, or nobody knows. It will be, a bit later.
    PaymentDeferred { fee: Money },
    /// The payment was refused.
    PaymentDeclined { fee: Money },
    /// No driver accepted in time.
    AllocationExpired,
}

impl Notice {
    /// Its name on the wire.
    pub(crate) fn template(&self) -> Template {
        match self {
            Notice::AllocationRequested { .. } => Template::AllocationRequested,
            Notice::AllocationApproved { .. } => Template::AllocationApproved,
            Notice::DrivingStarted { .. } => Template::DrivingStarted,
            Notice::DrivingFinished { .. } => Template::DrivingFinished,
            Notice::PaymentApproved { .. } => Template::PaymentApproved,
            Notice::PaymentDeferred { .. } => Template::PaymentDeferred,
            Notice::PaymentDeclined { .. } => Template::PaymentDeclined,
            Notice::AllocationExpired => Template::AllocationExpired,
        }
    }

    /// The words.
    pub(crate) fn text(&self, language: Language) -> String {
        use Language::{English, Korean};
        match (self, language) {
            (Notice::AllocationRequested { destination }, Korean) => format!(
                "차량 배정 요청이 접수되었습니다. 목적지: {destination}. 기사님을 찾고 있습니다."
            ),
            (Notice::AllocationRequested { destination }, English) => format!(
                "We have received your request for a car. Destination: {destination}. \
                 We are looking for a driver."
            ),
            (Notice::AllocationApproved { driver }, Korean) => {
                format!("{driver} 기사님이 배정되었습니다. 지금 모시러 가고 있습니다.")
            }
            (Notice::AllocationApproved { driver }, English) => {
                format!("Your driver {driver} has accepted your request and is on the way.")
            }
            (Notice::DrivingStarted { driver }, Korean) => {
                format!("{driver} 기사님이 운행을 시작했습니다. 안전하게 모시겠습니다.")
            }
            (Notice::DrivingStarted { driver }, English) => {
                format!("Your ride with {driver} has started. Have a pleasant trip.")
            }
            (Notice::DrivingFinished { minutes, fare }, Korean) => format!(
                "운행이 끝났습니다. 요금은 {minutes}분 기준 {}원입니다. 이용해 주셔서 감사합니다.",
                won(*fare)
            ),
            (Notice::DrivingFinished { minutes, fare }, English) => format!(
                "Your ride has ended. The fare for {} is {} won. Thank you for riding with us.",
                counted(*minutes, "minute"),
                won(*fare)
            ),
            (Notice::PaymentApproved { fee }, Korean) => {
                format!("요금 {}원이 결제되었습니다. 감사합니다.", won(*fee))
            }
            (Notice::PaymentApproved { fee }, English) => {
                format!("Your payment of {} won has been taken. Thank you.", won(*fee))
            }
            (Notice::PaymentDeferred { fee }, Korean) => format!(
                "요금 {}원의 결제가 아직 마무리되지 않았습니다. 잠시 후에 마무리하고 알려 드리겠습니다. \
                 두 번 결제되는 일은 없으며, 따로 하실 일도 없습니다.",
                won(*fee)
            ),
            (Notice::PaymentDeferred { fee }, English) => format!(
                "Your payment of {} won is not settled yet. It will be a little later, and we will \
                 tell you then. It is never taken twice, and there is nothing you need to do.",
                won(*fee)
            ),
            (Notice::PaymentDeclined { fee }, Korean) => format!(
                "요금 {}원의 결제가 거절되었습니다. 결제 수단을 확인하신 뒤 결제 내역에서 다시 결제해 \
                 주세요.",
                won(*fee)
            ),
            (Notice::PaymentDeclined { fee }, English) => format!(
                "Your payment of {} won was declined. Please check your payment method, then pay \
                 again in your list of payments.",
                won(*fee)
            ),
            (Notice::AllocationExpired, Korean) => {
                "제시간에 수락한 기사님이 없어 배정 요청이 만료되었습니다. 다시 요청해 주세요."
                    .to_owned()
            }
            (Notice::AllocationExpired, English) => "No driver accepted in time, so your request \
                 has expired. Please ask for a car again."
                .to_owned(),
        }
    }
}

/// An amount with separators between thousands: `12,000`.
fn won(amount: Money) -> String {
    let digits = amount.as_won().to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many of something, in English: `1 minute`, `2 minutes`.
fn counted(count: i64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every notice, with what must be found in its words.
    fn table() -> Vec<(Notice, Vec<&'static str>)> {
        let fee = Money::won(12_000);
        vec![
            (Notice::AllocationRequested { destination: "서울역".to_owned() }, vec!["서울역"]),
            (Notice::AllocationApproved { driver: "D1".to_owned() }, vec!["D1"]),
            (Notice::DrivingStarted { driver: "D1".to_owned() }, vec!["D1"]),
            (Notice::DrivingFinished { minutes: 12, fare: fee }, vec!["12,000", "12"]),
            (Notice::PaymentApproved { fee }, vec!["12,000"]),
            (Notice::PaymentDeferred { fee }, vec!["12,000"]),
            (Notice::PaymentDeclined { fee }, vec!["12,000"]),
            (Notice::AllocationExpired, vec![]),
        ]
    }

    #[test]
    fn every_template_is_written_in_both_languages_with_all_its_data() {
        let mut templates: Vec<i32> = Vec::new();
        for (notice, data) in table() {
            templates.push(notice.template() as i32);
            let (ko, en) = (notice.text(Language::Korean), notice.text(Language::English));
            for datum in &data {
                assert!(ko.contains(datum) && en.contains(datum), "{datum}: {ko} / {en}");
            }
            assert!(ko.ends_with(['.', '?']) && en.ends_with('.'), "{ko} / {en}");
            assert!(ko.chars().any(is_hangul), "{ko}");
            let english = data.iter().fold(en.clone(), |text, datum| text.replace(datum, ""));
            assert!(!english.chars().any(is_hangul), "{en}");
        }
        templates.sort_unstable();
        assert_eq!(templates, (1..=8).collect::<Vec<_>>());
        assert!(Template::try_from(9).is_err());
    }

    #[test]
    fn no_korean_particle_depends_on_data() {
        let mark = "\u{2603}".to_owned();
        let notices = [
            Notice::AllocationRequested { destination: mark.clone() },
            Notice::AllocationApproved { driver: mark.clone() },
            Notice::DrivingStarted { driver: mark.clone() },
        ];
        for notice in notices {
            let text = notice.text(Language::Korean);
            let behind = text.split(&mark).nth(1).and_then(|rest| rest.chars().next());
            assert!(behind.is_some_and(|next| !is_hangul(next)), "{text}");
        }
    }

    /// Nobody may know yet, and in the end the provider may refuse: no word of what was or was not
    /// taken, and no promise that it will be.
    #[test]
    fn a_deferred_payment_sounds_neither_taken_nor_not_taken() {
        let deferred = Notice::PaymentDeferred { fee: Money::won(3_000) };
        let (ko, en) = (deferred.text(Language::Korean), deferred.text(Language::English));
        assert!(ko.contains("아직 마무리되지 않았습니다") && ko.contains("잠시 후"), "{ko}");
        assert!(en.contains("not settled yet") && en.contains("a little later"), "{en}");
        for untrue in ["결제되었", "결제되지 않", "결제하지 못", "결제됩니다"] {
            assert!(!ko.contains(untrue), "{ko}");
        }
        for untrue in ["has been", "not taken", "not charged", "not been", "will be taken"] {
            assert!(!en.contains(untrue), "{en}");
        }
    }

    #[test]
    fn a_declined_payment_says_what_to_do() {
        let declined = Notice::PaymentDeclined { fee: Money::won(3_000) };
        let (ko, en) = (declined.text(Language::Korean), declined.text(Language::English));
        assert!(ko.contains("결제 내역에서 다시 결제해 주세요"), "{ko}");
        assert!(en.contains("pay again in your list of payments"), "{en}");
    }

    #[test]
    fn amounts_have_separators() {
        let table = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_000, "12,000"),
            (123_456, "123,456"),
            (1_234_567, "1,234,567"),
        ];
        for (amount, text) in table {
            assert_eq!(won(Money::won(amount)), text);
        }
        assert_eq!(
            (counted(1, "minute"), counted(2, "minute")),
            ("1 minute".into(), "2 minutes".into())
        );
    }

    #[test]
    fn korean_is_the_default() {
        for (tag, language) in [
            ("ko", Language::Korean),
            ("en", Language::English),
            ("en-GB", Language::English),
            ("", Language::Korean),
            ("fr", Language::Korean),
        ] {
            assert_eq!(Language::parse(tag), language, "{tag}");
        }
        assert_eq!((Language::Korean.tag(), Language::English.tag()), ("ko", "en"));
    }

    fn is_hangul(c: char) -> bool {
        ('가'..='힣').contains(&c)
    }
}
