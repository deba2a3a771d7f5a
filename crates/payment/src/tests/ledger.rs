//! The ledger, which nobody can change. That it comes to what the payments say is checked at the end
//! of every test.

use platform::db::{Db, DbConfig};
use sea_orm::{ConnectionTrait, EntityTrait, Set};
use sea_orm_migration::MigratorTrait;

use crate::ledger::{balance, charged, row};
use crate::migration::Migrations;

use super::house::{everywhere, fee};
use super::*;

#[tokio::test]
async fn every_movement_is_entered_once_with_both_of_its_sides() {
    everywhere(async |house| {
        let paid = house.pay(fee(1, 1)).await.expect("an answer");
        house.refund(&paid, 2, 1000).await.expect("an answer");
        let rows = row::Entity::find().all(house.db.reader()).await.expect("a database");
        let mut movements: Vec<_> = rows
            .iter()
            .map(|row| (&*row.kind, &*row.debit, &*row.credit, row.amount, &*row.reason))
            .collect();
        movements.sort_unstable();
        let charge = ("CHARGE", "provider_receivable", "fares_earned", 3000, "");
        let refund = ("REFUND", "fares_earned", "provider_receivable", 1000, "a detour");
        assert_eq!(movements, [charge, refund]);
        let receivable = balance(&house.db, Some("provider_receivable")).await.expect("a balance");
        assert_eq!(receivable, Money::won(2000));
    })
    .await;
}

#[tokio::test]
async fn the_database_refuses_to_rewrite_it() {
    everywhere(async |house| {
        house.pay(fee(1, 1)).await.expect("an answer");
        for sql in ["UPDATE ledger SET amount = 1", "DELETE FROM ledger"] {
            let said = house.db.writer().execute_unprepared(sql).await.expect_err(sql).to_string();
            assert!(said.contains("the ledger is append-only"), "{said}");
        }
        let known = row::Entity::find().one(house.db.reader()).await.expect("a database");
        let again =
            row::ActiveModel { payment: Set(kernel::Uuid::nil()), ..known.expect("one").into() };
        let twice = row::Entity::insert(again).exec_without_returning(house.db.writer()).await;
        assert!(twice.is_err(), "a movement is unique");
        let nothing = charged(kernel::Uuid::nil(), kernel::Uuid::nil(), 0, 0);
        let nothing = row::Entity::insert(nothing).exec_without_returning(house.db.writer()).await;
        assert!(nothing.is_err(), "nothing is no movement");
    })
    .await;
}

/// A database as the schema without a ledger left it, with an approved payment and a deferred one.
async fn from_before(url: String) {
    let db = Db::connect(&DbConfig { url, max_connections: 2 }).await.expect("a URL");
    let before = Migrations::migrations().len() as u32 - 1;
    Migrations::up(&**db.writer(), Some(before)).await.expect("migrates");
    for (n, state) in [(1, "APPROVED"), (2, "DEFERRED")] {
        let id = match db.backend() {
            sea_orm::DbBackend::Sqlite => format!("x'{n:032x}'"),
            _ => format!("'{}'", kernel::Uuid::from_u128(n)),
        };
        let sql = format!(
            "INSERT INTO payment (id, revision, version, driving, allocation, customer, amount, \
             state, attempt_count, in_doubt, deferral_announced, provider_reference, \
             decline_reason, refunded_amount, approve_time, create_time, update_time) VALUES \
             ({id}, 1, 1, {id}, {id}, 'C1', 3000, '{state}', 1, false, false, 'ch_1', '', 0, 5, 5, 5)"
        );
        db.writer().execute_unprepared(&sql).await.expect("a row");
    }
    db.migrate::<Migrations>().await.expect("migrates");
    let rows = row::Entity::find().all(db.reader()).await.expect("a database");
    let driving = kernel::DrivingId(kernel::Uuid::from_u128(1));
    let key = crate::domain::charge_key(driving, 1);
    let entered: Vec<_> = rows.iter().map(|row| (row.charge, row.amount, row.time)).collect();
    assert_eq!(entered, [(key, 3000, 5)]);
}

#[tokio::test]
async fn what_was_taken_before_there_was_a_ledger_is_entered() {
    let files = tempfile::tempdir().expect("a directory");
    from_before(format!("sqlite://{}", files.path().join("payment.db").display())).await;
    from_before(testkit::Postgres::shared().await.database("payment").await.expect("one")).await;
}
