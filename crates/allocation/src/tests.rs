//! Who owes a fee, through the front door, and who makes the tables: on SQLite and on Postgres.

mod house;

use futures::future::join_all;
use platform::db::{Db, DbConfig};
use platform::status::reason;
use sea_orm_migration::MigratorTrait as _;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use self::house::{House, Word, a_customer, everywhere, operator, payment};
use crate::NAME;
use crate::migration::Migrations;

/// Whether somebody is told to settle this payment first.
fn owes<T>(answer: Result<T, Status>, n: u128) -> bool {
    let Err(status) = answer else { return false };
    let reasons = (status.code(), reason(&status));
    assert_eq!(reasons, (Code::FailedPrecondition, Some("OUTSTANDING_PAYMENT".to_owned())));
    let failure = status.get_details_precondition_failure().expect("a precondition");
    assert_eq!(failure.violations[0].description, status.message());
    assert!(status.message().contains(&format!("SettlePayment of {}", payment(n))), "{status:?}");
    true
}

async fn owes_now(house: &House, customer: &str) -> bool {
    owes(house.ask(customer).await, 1)
}

#[tokio::test]
async fn a_declined_fee_is_settled_before_the_next_ride() {
    everywhere(true, async |house| {
        house.hear(payment(1), 1, Word::Declined, "C1").await;
        assert!(owes_now(house, "C1").await);
        let for_them = house.ask_as(operator(), "C1", house.new_id()).await;
        assert!(owes(for_them, 1), "not even an operator asks for who owes");
        house.ask("C2").await.expect("owes nothing");

        house.hear(payment(1), 2, Word::Approved, "C1").await;
        house.ask("C1").await.expect("settled");
    })
    .await;
}

#[tokio::test]
async fn only_a_declined_fee_is_owed() {
    use Word::{Approved, Declined, Deferred, Refunded};
    let table: [(&[Word], bool); 9] = [
        (&[Approved], false),
        (&[Deferred], false),
        (&[Declined], true),
        (&[Deferred, Declined], true),
        (&[Declined, Declined], true),
        (&[Declined, Deferred], false),
        (&[Declined, Deferred, Declined], true),
        (&[Declined, Approved], false),
        (&[Declined, Approved, Refunded], false),
    ];
    everywhere(true, async |house| {
        for (row, (words, owed)) in table.into_iter().enumerate() {
            let (customer, fee) = (format!("C{row}"), payment(row as u128));
            for (version, word) in (1..).zip(words) {
                house.hear(fee, version, *word, &customer).await;
            }
            assert_eq!(owes(house.ask(&customer).await, row as u128), owed, "{words:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_repeated_or_late_changes_nothing() {
    everywhere(true, async |house| {
        house.hear(payment(1), 1, Word::Declined, "C1").await;
        house.hear(payment(1), 2, Word::Approved, "C1").await;
        house.hear(payment(1), 1, Word::Declined, "C1").await;
        house.ask("C1").await.expect("settled");

        house.hear(payment(1), 3, Word::Declined, "C2").await;
        house.hear(payment(1), 2, Word::Approved, "C2").await;
        house.hear(payment(1), 3, Word::Declined, "C2").await;
        assert!(owes_now(house, "C2").await);
    })
    .await;
}

#[tokio::test]
async fn of_several_the_oldest_is_named_until_all_are_settled() {
    everywhere(true, async |house| {
        for n in [2, 1, 3] {
            house.hear(payment(n), 1, Word::Declined, "C1").await;
        }
        for n in 1..=3 {
            assert!(owes(house.ask("C1").await, n));
            house.hear(payment(n), 2, Word::Approved, "C1").await;
        }
        house.ask("C1").await.expect("all settled");
    })
    .await;
}

#[tokio::test]
async fn who_repeats_a_request_gets_the_first_answer_whatever_they_owe_by_now() {
    everywhere(true, async |house| {
        let (customer, id) = (a_customer("C1"), house.new_id());
        let first = house.ask_as(customer.clone(), "C1", id).await.expect("owes nothing");
        house.hear(payment(1), 1, Word::Declined, "C1").await;
        let again = house.ask_as(customer, "C1", id).await.expect("the first answer");
        assert_eq!(again, first);
        assert!(owes_now(house, "C1").await);
    })
    .await;
}

#[tokio::test]
async fn among_many_at_once_only_debtors_are_refused() {
    everywhere(true, async |house| {
        let customers: Vec<String> = (0..100).map(|n| format!("C{n}")).collect();
        for debtor in customers.iter().step_by(3) {
            let fee = kernel::PaymentId(house.new_id());
            house.hear(fee, 1, Word::Declined, debtor).await;
        }
        let answers = join_all(customers.iter().map(|customer| house.ask(customer))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            let refused = answer.err().and_then(|status| reason(&status));
            let expected = (n % 3 == 0).then(|| "OUTSTANDING_PAYMENT".to_owned());
            assert_eq!(refused, expected, "C{n}");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_is_refused_when_the_house_is_generous() {
    everywhere(false, async |house| {
        house.hear(payment(1), 1, Word::Declined, "C1").await;
        house.ask("C1").await.expect("may owe");
    })
    .await;
}

/// As many as migrate at the same time, the schema is made once.
#[tokio::test]
async fn those_who_migrate_at_once_wait_for_each_other() {
    let files = tempfile::tempdir().expect("a directory");
    let sqlite = format!("sqlite://{}", files.path().join("allocation.db").display());
    let postgres = testkit::Postgres::shared().await.database(NAME).await.expect("a database");
    for url in [sqlite, postgres] {
        let migrations = (0..4).map(async |_| {
            let config = DbConfig { url: url.clone(), max_connections: 2 };
            let db = Db::connect(&config).await.expect("a URL");
            db.migrate::<Migrations>().await.expect("migrates").len()
        });
        let mut applied = join_all(migrations).await;
        applied.sort_unstable();
        assert_eq!(applied, [0, 0, 0, Migrations::migrations().len()]);
    }
}
