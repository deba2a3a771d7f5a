//! The lines that keep the promise, and what each is without it.

/// One choice per line. The first variant of each is the design; the others weaken it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// How a relay finds what is to be sent.
    pub reading: Reading,
    /// What a relay has in flight at a time.
    pub wave: Wave,
    /// What a relay expects to be the last of the aggregate in the stream.
    pub expecting: Expecting,
    /// How long a relay believes what it knows of the stream.
    pub memory: Memory,
    /// How long the broker knows a message again by its id.
    pub window: Window,
    /// What a relay marks as sent.
    pub marking: Marking,
    /// How many believe that they lead.
    pub lease: Lease,
    /// What a consumer does about gaps.
    pub gaps: Gaps,
    /// When a consumer writes down that an event has had its effect.
    pub record: Record,
}

/// How a relay finds what is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Whatever is unsent, from the first row on.
    #[default]
    FromTheStart,
    /// Only behind the last row that it has marked.
    BehindACursor,
}

/// What a relay has in flight at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wave {
    /// Never two events of one aggregate.
    #[default]
    OneOfEachAggregate,
    /// All that it has read.
    Everything,
}

/// What a relay expects to be the last of the aggregate in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expecting {
    /// The version before, at the place where it is.
    #[default]
    Predecessor,
    /// Whatever it finds there.
    WhateverIsLast,
    /// It does not say.
    Nothing,
}

/// How long a relay believes what it knows of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// As long as its connection to the broker lasts.
    #[default]
    OfTheConnection,
    /// As long as its process lives.
    OfTheProcess,
}

/// How long the broker knows a message again by its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// For a time that may be over at any moment.
    #[default]
    Passes,
    /// For ever.
    Endless,
    /// Never.
    Closed,
}

/// What a relay marks as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marking {
    /// What comes before the first event of the wave that was not acknowledged.
    #[default]
    AcknowledgedPrefix,
    /// All that was acknowledged.
    Acknowledged,
    /// All that was published.
    Published,
}

/// How many believe that they lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// All of them, all the time: a lease that may be lost unnoticed between any two steps.
    #[default]
    BelievedByAll,
    /// One, until it dies. No real lease is like that.
    Perfect,
}

/// What a consumer does about gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// The hold rule: an early event waits until the gap has closed.
    #[default]
    Hold,
    /// It applies whatever comes.
    Ignore,
}

/// When a consumer writes down that an event has had its effect: the cause, and the version known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Record {
    /// In the transaction of the effect.
    #[default]
    WithTheEffect,
    /// In a transaction of its own, after that of the effect.
    AfterTheEffect,
    /// In the transaction of the effect, but only the version and not the cause.
    WithoutCause,
}
