//! The row of a __name__, and the mapping between the two.

use kernel::{Actor, AllocationId, CustomerId, Recorded, Rejection, Role, Timestamp};
use platform::outbox::Publication;
use platform::store::{CorruptRow, Persist};
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, Set};
use serde::{Deserialize, Serialize};

use crate::domain::{Event, __Name__, __Name__Id, not_found};
use crate::events;

/// The table of __names__.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "__name__")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub revision: i64,
    pub version: i64,
    pub customer: String,
    pub allocation: Option<Uuid>,
    pub note: String,
    pub create_time: i64,
    pub update_time: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Persist for __Name__ {
    type Entity = Entity;

    fn from_row(row: Model) -> Result<Recorded<__Name__>, CorruptRow> {
        Ok(Recorded {
            aggregate: __Name__ {
                id: __Name__Id(row.id),
                customer: CustomerId::from_subject(row.customer),
                allocation: row.allocation.map(AllocationId),
                note: row.note,
            },
            revision: row.revision,
            version: row.version,
            create_time: Timestamp::from_micros(row.create_time),
            update_time: Timestamp::from_micros(row.update_time),
        })
    }

    fn to_row(recorded: &Recorded<__Name__>) -> ActiveModel {
        let this = &recorded.aggregate;
        ActiveModel {
            id: Set(this.id.0),
            revision: Set(recorded.revision),
            version: Set(recorded.version),
            customer: Set(this.customer.subject().to_owned()),
            allocation: Set(this.allocation.map(|allocation| allocation.0)),
            note: Set(this.note.clone()),
            create_time: Set(recorded.create_time.micros()),
            update_time: Set(recorded.update_time.micros()),
        }
    }

    fn visible_to(actor: &Actor) -> Condition {
        match actor.role {
            Role::Customer => Condition::all().add(Column::Customer.eq(&actor.subject)),
            Role::Driver => Condition::all().add(Expr::cust("1 = 0")),
            Role::Operator | Role::Service => Condition::all(),
        }
    }

    fn open_to(&self, actor: &Actor) -> bool {
        match actor.role {
            Role::Customer => self.customer.subject() == actor.subject,
            Role::Driver => false,
            Role::Operator | Role::Service => true,
        }
    }

    fn matching((): &()) -> Condition {
        Condition::all()
    }

    fn not_found(id: Uuid) -> Rejection {
        not_found(__Name__Id(id))
    }

    fn conflict(_constraint: &str) -> Option<Rejection> {
        None
    }

    fn publication(recorded: &Recorded<__Name__>, event: &Event) -> Publication {
        events::publication(recorded, event)
    }
}
