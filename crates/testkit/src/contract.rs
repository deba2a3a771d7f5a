//! The contract of PayFee: what driving asks of payment, what it relies on in each answer, and what
//! it makes of it. It is `crates/proto/contracts/pay_fee.json`, written from driving's needs.
//!
//! Driving's test answers its client with [`Answer::say`]; payment's test gives what its service
//! has said to [`Answer::check`]. Neither needs the other. A circumstance that is not in [`Given`],
//! and a field that is in no message, cannot even be read.

use std::fs;
use std::time::Duration;

use kernel::Uuid;
use platform::status::{reason, retry_after, upper_snake};
use prost_reflect::prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use proto::payment::v1::{PayFeeRequest, Payment};
use serde::Deserialize;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Where it is.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/contracts/pay_fee.json");
/// What stands for an id that differs each time.
const ID: &str = "{uuid}";

/// All that driving and payment have agreed on.
#[derive(Debug)]
pub struct PayFeeContract {
    /// What driving sends, whatever the circumstance.
    pub request: PayFeeRequest,
    /// What comes of it.
    pub interactions: Vec<Interaction>,
}

/// One circumstance, and what comes of the request in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interaction {
    /// The circumstance.
    pub given: Given,
    /// What payment answers.
    pub answer: Answer,
    /// Whether driving asks once more if it has the time.
    #[serde(default)]
    pub asks_again: bool,
    /// What driving makes of it.
    pub means: Means,
}

/// A circumstance of payment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the words of the contract are beside them")]
pub enum Given {
    #[serde(rename = "the provider approves")]
    Approves,
    #[serde(rename = "the provider declines")]
    Declines,
    #[serde(rename = "the provider is away")]
    Away,
    #[serde(rename = "the provider's answer is lost")]
    AnswerLost,
    #[serde(rename = "another call is taking the fee")]
    BeingTaken,
    #[serde(rename = "the fee is already taken")]
    Taken,
    #[serde(rename = "the fee is already given back")]
    GivenBack,
    #[serde(rename = "the provider is being asked for too many others")]
    TooManyAsked,
    #[serde(rename = "the provider is being asked for too many others, and the fee is already due")]
    TooManyAskedAndDue,
    #[serde(rename = "payment is serving too many others")]
    TooManyServed,
    #[serde(rename = "payment's store has stopped")]
    StoreStopped,
    #[serde(rename = "the driving was charged another amount")]
    ChargedDifferently,
    #[serde(rename = "the request id was used for another driving")]
    RequestIdUsed,
}

/// What driving takes the fee for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// Taken.
    Approved,
    /// Refused.
    Declined,
    /// To be taken a bit later.
    Deferred,
}

/// What payment answers, as far as driving relies on it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// A payment: some of its fields, in proto3 JSON.
    Payment(Value),
    /// A refusal.
    Status(Refusal),
}

/// A status other than OK.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    code: String,
    reason: String,
    /// Whether it says when to come back.
    #[serde(default)]
    retry_info: bool,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    consumer: String,
    provider: String,
    method: String,
    request: Value,
    interactions: Vec<Interaction>,
}

impl PayFeeContract {
    /// Reads it.
    ///
    /// # Panics
    /// When it makes no sense.
    #[must_use]
    pub fn read() -> Self {
        let text = fs::read_to_string(FILE).expect("the contract");
        let file: File = serde_json::from_str(&text).unwrap_or_else(|no| panic!("{FILE}: {no}"));
        let about = [&*file.consumer, &*file.provider, &*file.method];
        assert_eq!(about, ["driving", "payment", "taxi.payment.v1.PaymentService/PayFee"]);
        Self { request: typed(&file.request), interactions: file.interactions }
    }
}

impl Answer {
    /// The answer of a payment that keeps the contract, with this id where ids differ each time.
    ///
    /// # Errors
    /// When the answer is a status.
    ///
    /// # Panics
    /// When it is no possible answer.
    pub fn say(&self, id: Uuid) -> Result<Payment, Status> {
        match self {
            Self::Payment(fields) => {
                let text = fields.to_string().replace(ID, &id.to_string());
                Ok(typed(&serde_json::from_str(&text).expect("still JSON")))
            }
            Self::Status(refusal) => Err(refusal.say()),
        }
    }

    /// Whether payment has said all that driving relies on.
    ///
    /// # Errors
    /// When it has not: what was expected, and what was said.
    pub fn check(&self, said: &Result<Payment, Status>) -> Result<(), String> {
        let kept = match (self, said) {
            (Self::Payment(fields), Ok(payment)) => {
                let relied_on = json(&dynamic::<Payment>(fields), true);
                contains(&json(&reflected(payment), false), &relied_on)
            }
            (Self::Status(refusal), Err(status)) => *refusal == Refusal::of(status),
            _ => false,
        };
        if kept { Ok(()) } else { Err(format!("expected {self:?}, and not {said:?}")) }
    }
}

impl Refusal {
    fn of(status: &Status) -> Self {
        Self {
            code: upper_snake(status.code()).to_owned(),
            reason: reason(status).unwrap_or_default(),
            retry_info: retry_after(status).is_some(),
        }
    }

    fn say(&self) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(&self.reason, platform::status::DOMAIN, []);
        if self.retry_info {
            details.set_retry_info(Some(Duration::from_millis(1)));
        }
        let code = (1..=16).map(Code::from).find(|code| upper_snake(*code) == self.code);
        let code = code.unwrap_or_else(|| panic!("no code of gRPC is {}", self.code));
        Status::with_error_details(code, "by contract", details)
    }
}

/// Whether a value has everything that another one has; `{uuid}` is any UUID.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(field, part)| whole.get(field).is_some_and(|whole| contains(whole, part))),
        (Value::String(whole), Value::String(part)) => match part.split_once(ID) {
            Some((before, after)) => whole
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after))
                .is_some_and(|id| Uuid::try_parse(id).is_ok()),
            None => whole == part,
        },
        _ => whole == part,
    }
}

fn descriptor<M: Name>() -> MessageDescriptor {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    pool.get_message_by_name(&M::full_name()).expect("a message of ours")
}

/// A message from its JSON.
fn dynamic<M: Name>(json: &Value) -> DynamicMessage {
    DynamicMessage::deserialize(descriptor::<M>(), json)
        .unwrap_or_else(|no| panic!("{} is not {json}: {no}", M::full_name()))
}

fn typed<M: Message + Name + Default>(json: &Value) -> M {
    dynamic::<M>(json).transcode_to().expect("the same message")
}

fn reflected<M: Message + Name>(message: &M) -> DynamicMessage {
    let mut dynamic = DynamicMessage::new(descriptor::<M>());
    dynamic.transcode_from(message).expect("the same message");
    dynamic
}

fn json(message: &DynamicMessage, skip_defaults: bool) -> Value {
    let options = SerializeOptions::new().skip_default_fields(skip_defaults);
    let serializer = serde_json::value::Serializer;
    message.serialize_with_options(serializer, &options).expect("a message is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).expect("an answer")
    }

    #[test]
    fn no_circumstance_comes_twice() {
        let mut seen = Vec::new();
        for interaction in PayFeeContract::read().interactions {
            assert!(!seen.contains(&interaction.given), "{:?} comes twice", interaction.given);
            seen.push(interaction.given);
        }
    }

    #[test]
    fn an_answer_contains_what_it_says_itself_and_nothing_else() {
        let id = Uuid::from_u128(7);
        let answers = [
            r#"{"payment": {"name": "payments/{uuid}", "state": "STATE_APPROVED"}}"#,
            r#"{"payment": {"name": "payments/{uuid}", "state": "STATE_DECLINED"}}"#,
            r#"{"payment": {"name": "drivings/{uuid}", "state": "STATE_APPROVED"}}"#,
            r#"{"status": {"code": "UNAVAILABLE", "reason": "A"}}"#,
            r#"{"status": {"code": "ABORTED", "reason": "A"}}"#,
            r#"{"status": {"code": "UNAVAILABLE", "reason": "B"}}"#,
            r#"{"status": {"code": "UNAVAILABLE", "reason": "A", "retry_info": true}}"#,
        ]
        .map(answer);
        for (at, answer) in answers.iter().enumerate() {
            for (other, said) in answers.iter().enumerate() {
                let kept = answer.check(&said.say(id)).is_ok();
                assert_eq!(kept, at == other, "{answer:?} {said:?}");
            }
        }
    }

    #[test]
    fn only_what_is_relied_on_counts() {
        let said =
            Ok(Payment { name: "payments/7".to_owned(), attempt_count: 3, ..Payment::default() });
        assert_eq!(answer(r#"{"payment": {"attemptCount": 3}}"#).check(&said), Ok(()));
        assert!(answer(r#"{"payment": {"name": "payments/{uuid}"}}"#).check(&said).is_err());
    }
}
