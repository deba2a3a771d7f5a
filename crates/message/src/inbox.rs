//! The messages of all customers, in one bucket: key `<customer>.<message id>`, value the message
//! in protobuf.
//!
//! Ids are UUIDv7 and sort by time; so do the bucket's revisions, in which watches count.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::push::{OrderedError, OrderedErrorKind};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::kv::{Entry, Store, Watch, WatcherError};
use async_nats::jetstream::stream::DirectGetErrorKind;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use kernel::{CustomerId, Failure, Page, PageRequest, Uuid};
use platform::broker::BrokerError;
use platform::metrics::Counter;
use prost::Message as _;
use proto::message::v1::Message;
use proto::message::v1::message::Template;

use crate::bucket::Bucket;

/// How long the broker keeps a list's cursor that nobody reads any more.
const CURSOR_LIFE: Duration = Duration::from_secs(5);

static SENT: Counter = Counter::new("taxi.messages.sent", "{message}", "Messages to customers");

/// A template, as a label has it.
fn word(template: Template) -> &'static str {
    template.as_str_name().trim_start_matches("TEMPLATE_")
}

/// A message with its place in the bucket, from which a watch can go on.
pub(crate) type Revised = (u64, Message);

/// Where messages are kept.
#[derive(Clone)]
pub(crate) struct Inbox {
    bucket: Arc<Bucket>,
}

impl Inbox {
    /// The inbox in this bucket.
    pub(crate) fn new(bucket: Bucket) -> Inbox {
        for template in (0..).map_while(|number| Template::try_from(number).ok()).skip(1) {
            SENT.add(0, [("template", word(template))]);
        }
        Inbox { bucket: Arc::new(bucket) }
    }

    /// Stores a customer's message under this id, once: what is there already stays as it is.
    pub(crate) async fn create(
        &self,
        customer: &CustomerId,
        id: Uuid,
        message: &Message,
    ) -> Result<(), Failure> {
        let key = format!("{}.{id}", token(customer));
        if self.bucket.create(key, message.encode_to_vec().into()).await? {
            SENT.add(1, [("template", word(message.template()))]);
        }
        Ok(())
    }

    /// The message with this id: among this customer's, or among all.
    pub(crate) async fn get(
        &self,
        of: Option<&CustomerId>,
        id: Uuid,
    ) -> Result<Option<Message>, Failure> {
        let key = format!("{}.{id}", of.map_or_else(|| "*".to_owned(), token));
        let found = self.bucket.with(|store| last(store, key)).await?;
        found.map(decode).transpose()
    }

    /// One page of a customer's messages, newest first.
    pub(crate) async fn list(
        &self,
        customer: &CustomerId,
        page: &PageRequest,
    ) -> Result<Page<Message>, Failure> {
        let keys = format!("{}.*", token(customer));
        let mut part = Part::new(page);
        self.bucket.with(|store| read(store, keys, &mut part)).await?;
        let Page { items, next } = part.into_page();
        Ok(Page { items: items.into_iter().map(decode).collect::<Result<_, _>>()?, next })
    }

    /// A customer's messages after a revision, oldest first, and then each new one for as long as
    /// somebody asks. It survives the broker's absences.
    pub(crate) async fn watch(
        &self,
        customer: &CustomerId,
        after: u64,
    ) -> Result<impl Stream<Item = Result<Revised, Failure>> + Send + use<>, Failure> {
        let keys = format!("{}.*", token(customer));
        let (watch, mut seen) = self.bucket.with(|store| follow(store, keys, after)).await?;
        Ok(watch.filter_map(move |entry| {
            let news = match entry {
                Ok(entry) => unseen(entry, &mut seen).map(revised),
                Err(error) if goes_on(&error) => None,
                Err(error) => Some(Err(Failure::Unavailable(error.into()))),
            };
            std::future::ready(news)
        }))
    }
}

/// The last value under a key, which may have wildcards.
async fn last(store: Arc<Store>, key: String) -> Result<Option<Bytes>, BrokerError> {
    let subject = format!("{}{key}", store.prefix);
    match store.stream.direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(Some(message.payload).filter(is_present)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Follows keys with wildcards after a revision; one from before the bucket was lost means nothing
/// any more, and it begins anew.
async fn follow(store: Arc<Store>, keys: String, after: u64) -> Result<(Watch, u64), BrokerError> {
    let last = store.stream.get_info().await?.state.last_sequence;
    let after = if after > last { 0 } else { after };
    Ok((store.watch_from_revision(keys, after + 1).await?, after))
}

/// Reads all values there are under keys with wildcards, oldest first.
async fn read(store: Arc<Store>, keys: String, part: &mut Part) -> Result<(), BrokerError> {
    let cursor = pull::Config {
        filter_subject: format!("{}{keys}", store.prefix),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::None,
        inactive_threshold: CURSOR_LIFE,
        memory_storage: true,
        num_replicas: 1,
        ..Default::default()
    };
    let consumer = store.stream.create_consumer(cursor).await?;
    let present = consumer.cached_info().num_pending;
    if present == 0 {
        return Ok(());
    }
    let mut messages = consumer.stream().messages().await?;
    for _ in 0..present {
        let message = messages.try_next().await?.ok_or("the list broke off")?;
        if let Some(id) = id_in(&message.subject) {
            part.offer(id, message.payload.clone());
        }
    }
    Ok(())
}

/// Collects one page of a list while all of it passes by; keeps no more than the page.
struct Part {
    size: usize,
    before: Option<Uuid>,
    newest: BTreeMap<Uuid, Bytes>,
}

impl Part {
    fn new(page: &PageRequest) -> Part {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        Part { size, before: page.after, newest: BTreeMap::new() }
    }

    fn offer(&mut self, id: Uuid, value: Bytes) {
        if is_present(&value) && self.before.is_none_or(|before| id < before) {
            self.newest.insert(id, value);
        }
        // One more than the page tells that there is another page.
        if self.newest.len() > self.size.saturating_add(1) {
            self.newest.pop_first();
        }
    }

    fn into_page(mut self) -> Page<Bytes> {
        let more = self.newest.len() > self.size && self.newest.pop_first().is_some();
        let next = self.newest.keys().next().copied().filter(|_| more);
        Page { items: self.newest.into_values().rev().collect(), next }
    }
}

/// An entry that a watch has not shown yet: after a reconnect the broker may begin again.
fn unseen(entry: Entry, seen: &mut u64) -> Option<Entry> {
    let new = entry.revision > *seen;
    *seen = entry.revision.max(*seen);
    Some(entry).filter(|entry| new && is_present(&entry.value))
}

/// Whether a watch carries on behind this error: a cursor that the broker has forgotten, in a
/// restart say, is made again where it was.
fn goes_on(error: &WatcherError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<OrderedError>());
    source.is_some_and(|error| error.kind() == OrderedErrorKind::MissingHeartbeat)
}

fn revised(entry: Entry) -> Result<Revised, Failure> {
    Ok((entry.revision, decode(entry.value)?))
}

/// Whether it is a message: what remains of a deleted key is empty, a message never is.
fn is_present(value: &Bytes) -> bool {
    !value.is_empty()
}

fn decode(value: Bytes) -> Result<Message, Failure> {
    Message::decode(value).map_err(|error| Failure::Internal(Box::new(error)))
}

/// The message's id in a subject or a key.
fn id_in(subject: &str) -> Option<Uuid> {
    subject.rsplit('.').next().and_then(|id| Uuid::try_parse(id).ok())
}

/// A customer as one token of a key: ASCII letters, digits, `-` and `_` as they are, every other
/// byte as `=XX`. No two customers share a token.
fn token(customer: &CustomerId) -> String {
    let mut token = String::with_capacity(customer.subject().len());
    for byte in customer.subject().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => token.push(char::from(byte)),
            _ => token.push_str(&format!("={byte:02X}")),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Nats, PATIENCE};

    fn customer(subject: &str) -> CustomerId {
        CustomerId::from_subject(subject)
    }

    fn message(text: &str) -> Message {
        Message { text: text.to_owned(), ..Default::default() }
    }

    fn page(size: u64, after: Option<u128>) -> PageRequest {
        PageRequest { size, after: after.map(Uuid::from_u128) }
    }

    fn texts(page: &Page<Message>) -> Vec<&str> {
        page.items.iter().map(|message| message.text.as_str()).collect()
    }

    fn untoken(token: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let mut rest = token.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'=' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                byte => byte,
            });
        }
        String::from_utf8(bytes).ok()
    }

    #[test]
    fn a_token_is_readable_where_it_can_be() {
        assert_eq!(token(&customer("C-1_a")), "C-1_a");
        assert_eq!(token(&customer("auth0|a.b*>")), "auth0=7Ca=2Eb=2A=3E");
        assert_eq!(token(&customer("=7C")), "=3D7C");
        assert_eq!(token(&customer("철")), "=EC=B2=A0");
    }

    proptest! {
        #[test]
        fn any_customer_survives_their_token(subject in ".*") {
            let token = token(&customer(&subject));
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_=".contains(c);
            prop_assert!(token.chars().all(allowed), "{token}");
            prop_assert_eq!(untoken(&token), Some(subject));
        }
    }

    #[test]
    fn a_part_has_the_newest_and_says_where_to_go_on() {
        let list = |page: PageRequest| {
            let mut part = Part::new(&page);
            for id in [3, 1, 5, 2, 4] {
                part.offer(Uuid::from_u128(id), vec![id as u8].into());
            }
            part.offer(Uuid::from_u128(9), Bytes::new());
            let Page { items, next } = part.into_page();
            (items.iter().map(|item| item[0]).collect::<Vec<_>>(), next.map(|id| id.as_u128()))
        };
        assert_eq!(list(page(2, None)), (vec![5, 4], Some(4)));
        assert_eq!(list(page(2, Some(4))), (vec![3, 2], Some(2)));
        assert_eq!(list(page(2, Some(2))), (vec![1], None));
        assert_eq!(list(page(5, None)), (vec![5, 4, 3, 2, 1], None));
        assert_eq!(list(page(5, Some(1))), (vec![], None));
    }

    #[tokio::test]
    async fn a_message_is_made_once() {
        let nats = Nats::start().await;
        let (inbox, whose, id) = (nats.inbox(), customer("auth0|a.b*>"), Uuid::from_u128(7));
        assert_eq!(inbox.get(Some(&whose), id).await.expect("no message"), None);
        inbox.create(&whose, id, &message("first")).await.expect("stored");
        inbox.create(&whose, id, &message("second")).await.expect("known");
        let found = inbox.get(Some(&whose), id).await.expect("found");
        assert_eq!(found, Some(message("first")));
    }

    #[tokio::test]
    async fn a_message_is_found_by_its_customer_and_among_all() {
        let nats = Nats::start().await;
        let (inbox, id) = (nats.inbox(), Uuid::from_u128(7));
        inbox.create(&customer("C1"), id, &message("hers")).await.expect("stored");
        inbox.create(&customer("C1"), Uuid::from_u128(8), &message("other")).await.expect("stored");
        assert_eq!(inbox.get(None, id).await.expect("found"), Some(message("hers")));
        assert_eq!(inbox.get(Some(&customer("C2")), id).await.expect("not his"), None);
        assert_eq!(inbox.get(None, Uuid::from_u128(9)).await.expect("no message"), None);
    }

    #[tokio::test]
    async fn a_list_is_one_customer_s_newest_first_page_by_page() {
        let nats = Nats::start().await;
        let (inbox, whose) = (nats.inbox(), customer("C1"));
        let empty = inbox.list(&whose, &page(2, None)).await.expect("an empty list");
        assert_eq!((texts(&empty), empty.next), (vec![], None));
        for (id, text) in [(1, "a"), (2, "b"), (3, "c")] {
            inbox.create(&whose, Uuid::from_u128(id), &message(text)).await.expect("stored");
            let other = customer("C1.x");
            inbox.create(&other, Uuid::from_u128(id + 10), &message("x")).await.expect("stored");
        }
        let first = inbox.list(&whose, &page(2, None)).await.expect("a page");
        assert_eq!((texts(&first), first.next), (vec!["c", "b"], Some(Uuid::from_u128(2))));
        let second = inbox.list(&whose, &page(2, Some(2))).await.expect("a page");
        assert_eq!((texts(&second), second.next), (vec!["a"], None));
    }

    #[tokio::test]
    async fn a_watch_shows_what_is_there_then_what_comes_and_goes_on_after_a_revision() {
        let nats = Nats::start().await;
        let (inbox, whose) = (nats.inbox(), customer("C1"));
        let store = async |id: u128, text: &str| {
            inbox.create(&whose, Uuid::from_u128(id), &message(text)).await.expect("stored");
        };
        store(1, "a").await;
        let mut watch = Box::pin(inbox.watch(&whose, 0).await.expect("a watch"));
        let (revision, first) = watch.next().await.expect("the present").expect("a message");
        assert_eq!(first, message("a"));
        assert!(watch.next().now_or_never().is_none());

        store(2, "b").await;
        let (_, second) = watch.next().await.expect("the new one").expect("a message");
        assert_eq!(second, message("b"));

        let mut resumed = Box::pin(inbox.watch(&whose, revision).await.expect("a watch"));
        let (_, next) = resumed.next().await.expect("what was missed").expect("a message");
        assert_eq!(next, message("b"));

        let mut anew = Box::pin(inbox.watch(&whose, u64::MAX).await.expect("a watch"));
        let (_, first) = anew.next().await.expect("the present").expect("a message");
        assert_eq!(first, message("a"));
    }

    #[tokio::test]
    async fn a_watch_survives_the_broker_s_absence_and_repeats_nothing() {
        let mut nats = Nats::start().await;
        let (inbox, whose) = (nats.inbox(), customer("C1"));
        inbox.create(&whose, Uuid::from_u128(1), &message("a")).await.expect("stored");
        let mut fresh = Box::pin(inbox.watch(&whose, 0).await.expect("a watch"));
        let (seen, _) = fresh.next().await.expect("the present").expect("a message");
        let mut resumed = Box::pin(inbox.watch(&whose, seen).await.expect("a watch"));

        let outage = async {
            nats.restart().await;
            let news = message("b");
            let create = || inbox.create(&whose, Uuid::from_u128(2), &news);
            testkit::eventually(PATIENCE, create).await;
        };
        let ((), fresh, resumed) = futures::join!(outage, fresh.next(), resumed.next());
        for next in [fresh, resumed] {
            let (_, next) = next.expect("the new one").expect("a message");
            assert_eq!(next, message("b"));
        }
    }

    #[tokio::test]
    async fn without_a_broker_everything_is_unavailable_at_once() {
        let mut nats = Nats::start().await;
        let (inbox, whose, id) = (nats.inbox(), customer("C1"), Uuid::from_u128(1));
        nats.stop().await;
        let outcomes = [
            inbox.create(&whose, id, &message("a")).await,
            inbox.get(None, id).await.map(drop),
            inbox.list(&whose, &page(1, None)).await.map(drop),
            inbox.watch(&whose, 0).await.map(drop),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(Failure::Unavailable(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn a_lost_bucket_is_made_again() {
        let nats = Nats::start().await;
        let (inbox, whose) = (nats.inbox(), customer("C1"));
        inbox.create(&whose, Uuid::from_u128(1), &message("a")).await.expect("stored");
        nats.broker.jetstream().delete_key_value("TEST").await.expect("deleted");
        let news = message("b");
        let create = || inbox.create(&whose, Uuid::from_u128(2), &news);
        testkit::eventually(PATIENCE, create).await;
        let list = inbox.list(&whose, &page(9, None)).await.expect("a list");
        assert_eq!(texts(&list), ["b"]);
    }
}
