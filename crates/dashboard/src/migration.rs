//! The schema, portable between Postgres and SQLite.

use platform::context::house_migrations;
use proto::driving::v1::driving::State as Driving;
use proto::payment::v1::payment::State as Payment;
use sea_orm_migration::prelude::*;

/// The migrations of this context, oldest first.
pub struct Migrations;

#[async_trait::async_trait]
impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = house_migrations();
        migrations.push(Box::new(DrivingInfo));
        migrations.push(Box::new(Shard));
        migrations.push(Box::new(Unpaid));
        migrations
    }
}

struct DrivingInfo;

impl MigrationName for DrivingInfo {
    fn name(&self) -> &str {
        "m0002_driving_info"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for DrivingInfo {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let uuid = match manager.get_database_backend() {
            sea_orm::DbBackend::Sqlite => "blob",
            _ => "uuid",
        };
        // The id ends each list's index because lists are ordered by it.
        let sql = format!(
            "CREATE TABLE driving_info (
                id {uuid} PRIMARY KEY, customer text NOT NULL, pickup text, destination text,
                alloc_status integer NOT NULL,
                driving {uuid}, driver text NOT NULL, driving_status integer NOT NULL,
                start_time bigint, finish_time bigint, fee bigint,
                payment {uuid}, payment_status integer NOT NULL, refunded bigint NOT NULL,
                cancel_reason text NOT NULL, timeline text NOT NULL,
                create_time bigint NOT NULL, update_time bigint NOT NULL,
                allocation_version bigint NOT NULL, driving_version bigint NOT NULL,
                payment_version bigint NOT NULL, sequence bigint NOT NULL);
            CREATE INDEX driving_info_customer ON driving_info (customer, id);
            CREATE INDEX driving_info_driver ON driving_info (driver, id);
            CREATE INDEX driving_info_alloc_status ON driving_info (alloc_status, id);
            CREATE INDEX driving_info_driving ON driving_info (driving);
            CREATE INDEX driving_info_payment ON driving_info (payment);
            CREATE INDEX driving_info_sequence ON driving_info (sequence);"
        );
        manager.get_connection().execute_unprepared(&sql).await.map(|_| ())
    }
}

struct Shard;

impl MigrationName for Shard {
    fn name(&self) -> &str {
        "m0003_shard"
    }
}

/// Rides of one shard change in order; a row that is older than this column is in 0 until then.
#[async_trait::async_trait]
impl MigrationTrait for Shard {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "ALTER TABLE driving_info ADD COLUMN shard integer NOT NULL DEFAULT 0;
            CREATE INDEX driving_info_shard ON driving_info (shard, sequence);";
        manager.get_connection().execute_unprepared(sql).await.map(|_| ())
    }
}

struct Unpaid;

impl MigrationName for Unpaid {
    fn name(&self) -> &str {
        "m0004_unpaid"
    }
}

/// Whose fee has not come to an end: few rides at a time, looked for at every scrape of the metrics.
#[async_trait::async_trait]
impl MigrationTrait for Unpaid {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let finished = i32::from(Driving::Finished);
        let [approved, declined, refunded] =
            [Payment::Approved, Payment::Declined, Payment::Refunded].map(i32::from);
        let sql = format!(
            "CREATE INDEX driving_info_unpaid ON driving_info (finish_time)
                WHERE driving_status = {finished}
                AND payment_status NOT IN ({approved}, {declined}, {refunded});"
        );
        manager.get_connection().execute_unprepared(&sql).await.map(|_| ())
    }
}
