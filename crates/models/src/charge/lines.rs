//! The lines that keep money safe, and what each is without it.

/// One choice per line. The first variant of each is the design; the others weaken it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// Under which key an attempt asks for the charge.
    pub key: Key,
    /// When an attempt is on record.
    pub record: Record,
    /// Whether an attempt in doubt looks up what has become of the earlier ones.
    pub look_up: LookUp,
    /// What an attempt makes of it when the provider does not know the key.
    pub not_found: NotFound,
    /// What silence means.
    pub silence: Silence,
    /// Who may say how it ended.
    pub outcome: Outcome,
    /// What the provider makes of a key that it has seen.
    pub provider: Provider,
}

/// Under which key an attempt asks for the charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// The one made of the driving, until the provider refuses it.
    #[default]
    OfTheCharge,
    /// Another one each time.
    OfTheAttempt,
}

/// When an attempt is on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Record {
    /// Before the provider is asked.
    #[default]
    ThenAsk,
    /// Together with its outcome.
    AfterAsking,
}

/// Whether an attempt in doubt looks up what has become of the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LookUp {
    /// It does, and asks only for what the provider does not know.
    #[default]
    InDoubt,
    /// It asks.
    Never,
}

/// What an attempt makes of it when the provider does not know the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotFound {
    /// Perhaps not yet: it asks under the same key.
    #[default]
    NotYet,
    /// Never: it asks under a new one.
    ForGood,
}

/// What silence means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silence {
    /// Nobody knows.
    #[default]
    Unknown,
    /// Nothing was taken.
    NotCharged,
}

/// Who may say how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The attempt that holds the claim.
    #[default]
    OfTheClaim,
    /// Any attempt, whoever holds it.
    OfAnybody,
}

/// What the provider makes of a key that it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// It gives its first answer again.
    #[default]
    KnowsKeys,
    /// It does not look at keys.
    IgnoresKeys,
}
