//! The lines that keep the promise of a view, and what each is without it.

/// One choice per line. The first variant of each is the design; the others weaken it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// How a transaction moves the checkpoint.
    pub checkpoint: Checkpoint,
    /// What another try of a parked event does about the checkpoint.
    pub retry: Retry,
    /// By what a session knows its place in the stream again.
    pub place: Place,
    /// What the view does with an event that it contains already.
    pub fold: Fold,
}

/// How a transaction moves the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// First of all, if it is where the session left it. That locks its row until the end.
    #[default]
    ComparedFirst,
    /// Last of all, if it is where the session left it.
    ComparedLast,
    /// Last of all, wherever it is.
    NotCompared,
    /// After the view, in a transaction of its own.
    InItsOwnTransaction,
}

/// What another try of a parked event does about the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// It compares and locks it, as every transaction of the view.
    #[default]
    Fenced,
    /// Nothing.
    Unfenced,
}

/// By what a session knows its place in the stream again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// By its number, and by when the broker stored the message there.
    #[default]
    NumberAndTime,
    /// By its number, and by the event there.
    NumberAndEvent,
    /// By its number, which must not be behind the end of the stream.
    NumberWithinTheStream,
    /// By its number.
    Number,
}

/// What the view does with an event that it contains already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fold {
    /// It looks at the version, and ignores it.
    #[default]
    ByVersion,
    /// It folds it again, as a view that counts would.
    Blindly,
}
