//! The context's schema.

use platform::context::house_migrations;
use platform::db::uuid_type;
use sea_orm_migration::prelude::*;

/// All migrations, oldest first.
pub struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = house_migrations();
        migrations.push(Box::new(Create__Name__));
        migrations
    }
}

struct Create__Name__;

impl MigrationName for Create__Name__ {
    fn name(&self) -> &str {
        "m0002_create___name__"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Create__Name__ {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let uuid = uuid_type(manager);
        manager
            .get_connection()
            .execute_unprepared(&format!(
                "CREATE TABLE __name__ (
                    id {uuid} PRIMARY KEY, revision bigint NOT NULL, version bigint NOT NULL,
                    customer text NOT NULL, allocation {uuid}, note text NOT NULL,
                    create_time bigint NOT NULL, update_time bigint NOT NULL);
                CREATE INDEX __name___customer ON __name__ (customer, id);"
            ))
            .await
            .map(drop)
    }
}
