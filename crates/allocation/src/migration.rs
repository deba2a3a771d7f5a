//! The context's schema.

use platform::context::house_migrations;
use platform::db::uuid_type;
use sea_orm_migration::prelude::*;

/// All migrations, oldest first.
pub struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = house_migrations();
        migrations.push(Box::new(CreateAllocation));
        migrations.push(Box::new(CreateDue));
        migrations
    }
}

struct CreateAllocation;

impl MigrationName for CreateAllocation {
    fn name(&self) -> &str {
        "m0002_create_allocation"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateAllocation {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let uuid = uuid_type(manager);
        manager
            .get_connection()
            .execute_unprepared(&format!(
                "CREATE TABLE allocation (
                    id {uuid} PRIMARY KEY, revision bigint NOT NULL, version bigint NOT NULL,
                    customer text NOT NULL, state text NOT NULL, language text NOT NULL,
                    pickup_address text, pickup_latitude double precision,
                    pickup_longitude double precision, destination_address text NOT NULL,
                    destination_latitude double precision, destination_longitude double precision,
                    slot integer NOT NULL, open_slot text, expire_time bigint NOT NULL,
                    expiring boolean NOT NULL, driving {uuid}, driver text,
                    cancel_reason text NOT NULL, create_time bigint NOT NULL,
                    update_time bigint NOT NULL);
                CREATE UNIQUE INDEX allocation_open_slot ON allocation (open_slot);
                CREATE INDEX allocation_customer ON allocation (customer, id);
                CREATE INDEX allocation_driver ON allocation (driver, id);
                CREATE INDEX allocation_unanswered ON allocation (expire_time)
                    WHERE state = 'REQUESTED';"
            ))
            .await
            .map(drop)
    }
}

struct CreateDue;

impl MigrationName for CreateDue {
    fn name(&self) -> &str {
        "m0003_create_due"
    }
}

/// Who owes which fee.
#[async_trait::async_trait]
impl MigrationTrait for CreateDue {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let uuid = uuid_type(manager);
        manager
            .get_connection()
            .execute_unprepared(&format!(
                "CREATE TABLE due (
                    payment {uuid} PRIMARY KEY, version bigint NOT NULL, debtor text,
                    cause {uuid} NOT NULL, time bigint NOT NULL);
                CREATE INDEX due_debtor ON due (debtor);"
            ))
            .await
            .map(drop)
    }
}
