//! The context's schema.

use kernel::{DrivingId, Uuid};
use platform::context::house_migrations;
use platform::db::uuid_type;
use sea_orm::{DbBackend, EntityTrait, Statement};
use sea_orm_migration::prelude::*;

use crate::domain::charge_key;
use crate::ledger;

/// All migrations, oldest first.
pub struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = house_migrations();
        migrations.push(Box::new(CreatePayment));
        migrations.push(Box::new(CreateLedger));
        migrations
    }
}

struct CreatePayment;

impl MigrationName for CreatePayment {
    fn name(&self) -> &str {
        "m0002_create_payment"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreatePayment {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let uuid = uuid_type(manager);
        manager
            .get_connection()
            .execute_unprepared(&format!(
                "CREATE TABLE payment (
                    id {uuid} PRIMARY KEY, revision bigint NOT NULL, version bigint NOT NULL,
                    driving {uuid} NOT NULL, allocation {uuid} NOT NULL, customer text NOT NULL,
                    amount bigint NOT NULL, state text NOT NULL, claim {uuid}, claim_time bigint,
                    attempt_count integer NOT NULL, next_attempt_time bigint, due_time bigint,
                    in_doubt boolean NOT NULL, deferral_announced boolean NOT NULL,
                    provider_reference text NOT NULL, decline_reason text NOT NULL,
                    refunded_amount bigint NOT NULL, approve_time bigint,
                    create_time bigint NOT NULL, update_time bigint NOT NULL);
                CREATE UNIQUE INDEX payment_driving ON payment (driving);
                CREATE INDEX payment_customer ON payment (customer, id);
                CREATE INDEX payment_due ON payment (due_time) WHERE due_time IS NOT NULL;"
            ))
            .await
            .map(drop)
    }
}

struct CreateLedger;

impl MigrationName for CreateLedger {
    fn name(&self) -> &str {
        "m0003_create_ledger"
    }
}

/// Refunds, charges after a refusal, and the ledger of both. What was taken before there was a
/// ledger is entered in it.
#[async_trait::async_trait]
impl MigrationTrait for CreateLedger {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let uuid = uuid_type(manager);
        db.execute_unprepared(&format!(
            "ALTER TABLE payment ADD COLUMN charge_number integer NOT NULL DEFAULT 1;
            ALTER TABLE payment ADD COLUMN refund {uuid};
            ALTER TABLE payment ADD COLUMN refund_amount bigint;
            ALTER TABLE payment ADD COLUMN refund_reason text;
            ALTER TABLE payment ADD COLUMN refund_attempt_count integer;
            CREATE TABLE ledger (
                charge {uuid} NOT NULL, kind text NOT NULL CHECK (kind IN ('CHARGE', 'REFUND')),
                payment {uuid} NOT NULL, debit text NOT NULL, credit text NOT NULL,
                amount bigint NOT NULL CHECK (amount > 0), reason text NOT NULL,
                time bigint NOT NULL, UNIQUE (charge, kind), CHECK (debit <> credit));
            CREATE INDEX ledger_payment ON ledger (payment);
            CREATE VIEW ledger_entry AS
                SELECT charge, kind, payment, debit AS account, amount, time FROM ledger
                UNION ALL
                SELECT charge, kind, payment, credit AS account, -amount, time FROM ledger;"
        ))
        .await?;
        let guards = match manager.get_database_backend() {
            DbBackend::Sqlite => SQLITE_GUARDS,
            _ => POSTGRES_GUARDS,
        };
        db.execute_unprepared(guards).await?;
        enter_earlier_charges(db).await
    }
}

const SQLITE_GUARDS: &str = "
    CREATE TRIGGER ledger_is_not_changed BEFORE UPDATE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;";

const POSTGRES_GUARDS: &str = "
    CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$;
    CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();";

/// At that time a payment had one charge, and nothing was given back.
async fn enter_earlier_charges(db: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    let sql = "SELECT id, driving, amount, approve_time FROM payment WHERE state = 'APPROVED'";
    let approved = Statement::from_string(db.get_database_backend(), sql);
    for row in db.query_all_raw(approved).await? {
        let (id, driving): (Uuid, Uuid) = (row.try_get("", "id")?, row.try_get("", "driving")?);
        let time: Option<i64> = row.try_get("", "approve_time")?;
        let key = charge_key(DrivingId(driving), 1);
        let charge = ledger::charged(key, id, row.try_get("", "amount")?, time.unwrap_or_default());
        ledger::row::Entity::insert(charge).exec_without_returning(db).await?;
    }
    Ok(())
}
