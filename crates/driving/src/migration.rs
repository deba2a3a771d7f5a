//! The context's schema.

use platform::context::house_migrations;
use platform::db::uuid_type;
use sea_orm_migration::prelude::*;

/// All migrations, oldest first.
pub struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = house_migrations();
        migrations.push(Box::new(CreateDriving));
        migrations
    }
}

struct CreateDriving;

impl MigrationName for CreateDriving {
    fn name(&self) -> &str {
        "m0002_create_driving"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateDriving {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let uuid = uuid_type(manager);
        manager
            .get_connection()
            .execute_unprepared(&format!(
                "CREATE TABLE driving (
                    id {uuid} PRIMARY KEY, revision bigint NOT NULL, version bigint NOT NULL,
                    allocation {uuid} NOT NULL, customer text NOT NULL, driver text,
                    active_driver text, state text NOT NULL,
                    pickup_address text, pickup_latitude double precision,
                    pickup_longitude double precision, destination_address text NOT NULL,
                    destination_latitude double precision, destination_longitude double precision,
                    start_time bigint, finish_time bigint, fare bigint, fare_minutes bigint,
                    fare_rate bigint, fare_policy_version text, payment {uuid}, payment_state text,
                    cancel_reason text NOT NULL, create_time bigint NOT NULL,
                    update_time bigint NOT NULL);
                CREATE UNIQUE INDEX driving_allocation ON driving (allocation);
                CREATE UNIQUE INDEX driving_active_driver ON driving (active_driver);
                CREATE INDEX driving_customer ON driving (customer, id);
                CREATE INDEX driving_driver ON driving (driver, id);
                CREATE INDEX driving_open ON driving (pickup_latitude, pickup_longitude)
                    WHERE state = 'REQUESTED';
                CREATE TABLE driving_decline (
                    driver text NOT NULL, driving {uuid} NOT NULL, reason text NOT NULL,
                    time bigint NOT NULL, PRIMARY KEY (driver, driving));"
            ))
            .await
            .map(drop)
    }
}
