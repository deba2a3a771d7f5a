//! The context's schema.

use platform::context::house_migrations;
use platform::db::uuid_type;
use sea_orm_migration::prelude::*;

/// All migrations, oldest first.
pub struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = house_migrations();
        migrations.push(Box::new(CreatePayment));
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
