//! The context's events in the words of the wire: the only place that knows both.

use kernel::Recorded;
use platform::outbox::Publication;
use proto::__name__::v1 as wire;
use proto::words::time;

use crate::domain::{Event, __Name__};

/// An event of this __name__, ready to be published.
pub(crate) fn publication(recorded: &Recorded<__Name__>, event: &Event) -> Publication {
    let this = &recorded.aggregate;
    // A ride's events belong together.
    let correlation = this.allocation.map_or(this.id.0, |allocation| allocation.0);
    match event {
        Event::__Name__Created => Publication::of(
            correlation,
            &wire::__Name__Created {
                allocation: this.allocation.map(|it| it.to_string()).unwrap_or_default(),
                customer: this.customer.to_string(),
                driving: String::new(),
                __name__: this.id.to_string(),
                note: this.note.clone(),
                create_time: Some(time(recorded.create_time)),
            },
        ),
    }
}
