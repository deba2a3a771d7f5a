//! Who hears of what: the part of the contract between contexts that the checks need.

/// The contexts that consume with effect and keep books in a database of their own.
pub(super) const BOOKKEEPERS: [&str; 3] = ["allocation", "driving", "payment"];
/// All contexts that consume the stream.
pub(super) const CONSUMERS: [&str; 5] =
    ["allocation", "driving", "payment", "message", "dashboard"];

/// Whose events a context is given.
pub(super) fn listens_to(context: &str) -> &'static [&'static str] {
    match context {
        "allocation" => &["driving", "payment"],
        "payment" => &["driving"],
        "driving" => &["allocation", "payment"],
        "message" | "dashboard" => &["allocation", "driving", "payment"],
        _ => &[],
    }
}

/// Whether a context reads the payload of an event by this name.
pub(super) fn reads(context: &str, event: &str) -> bool {
    match context {
        "allocation" => matches!(
            event,
            "DrivingOpened"
                | "DrivingApproved"
                | "DrivingStarted"
                | "DrivingFinished"
                | "DrivingCancelled"
                | "DrivingCancelRejected"
                | "PaymentDeclined"
        ),
        "driving" => matches!(
            event,
            "AllocationRequested"
                | "AllocationCancelRequested"
                | "PaymentApproved"
                | "PaymentDeferred"
                | "PaymentDeclined"
                | "PaymentRefunded"
        ),
        "payment" => event == "DrivingFinished",
        "message" => matches!(
            event,
            "AllocationRequested"
                | "AllocationExpired"
                | "DrivingApproved"
                | "DrivingStarted"
                | "DrivingFinished"
                | "DrivingPaymentSettled"
                | "PaymentApproved"
                | "PaymentDeferred"
                | "PaymentDeclined"
        ),
        "dashboard" => {
            reads("allocation", event)
                || reads("driving", event)
                || reads("message", event)
                || event == "AllocationCancelled"
        }
        _ => false,
    }
}
