//! One question to several contexts at once. Some answer; who cannot be asked is named at the end.

use crate::contexts::Name;
use crate::exit::Exit;

/// What the contexts have answered.
#[derive(Debug)]
pub(crate) struct Survey<T> {
    /// Of those that did, in their order.
    pub(crate) answers: Vec<T>,
    away: Vec<(Name, Exit)>,
}

impl<T> Survey<T> {
    /// Asks them all at the same time.
    pub(crate) async fn of<A>(contexts: &[Name], ask: impl Fn(Name) -> A) -> Survey<T>
    where
        A: Future<Output = Result<T, Exit>>,
    {
        let asked = contexts.iter().map(|context| ask(*context));
        let outcomes = futures::future::join_all(asked).await;
        let mut survey = Survey { answers: Vec::new(), away: Vec::new() };
        for (context, outcome) in contexts.iter().zip(outcomes) {
            match outcome {
                Ok(answer) => survey.answers.push(answer),
                Err(exit) => survey.away.push((*context, exit)),
            }
        }
        survey
    }

    /// Done, unless somebody could not be asked.
    pub(crate) fn end(self) -> Result<(), Exit> {
        let mut away = self.away.into_iter();
        let Some((_, first)) = away.next() else { return Ok(()) };
        match names(away.map(|(context, _)| context)) {
            others if others.is_empty() => Err(first),
            others => Err(Exit::unavailable(format!("{first} (nor could {others} be asked)"))),
        }
    }
}

/// Contexts in a sentence.
pub(crate) fn names(contexts: impl IntoIterator<Item = Name>) -> String {
    contexts.into_iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(away: &[Name]) -> Result<Vec<Name>, String> {
        let survey = Survey::of(&Name::ALL, async |context| match away.contains(&context) {
            true => Err(Exit::unavailable(format!("{context} is away"))),
            false => Ok(context),
        });
        let mut survey = survey.await;
        let answers = std::mem::take(&mut survey.answers);
        survey.end().map(|()| answers).map_err(|exit| exit.to_string())
    }

    #[tokio::test]
    async fn whoever_is_away_is_named() {
        assert_eq!(asked(&[]).await, Ok(Name::ALL.to_vec()));
        assert_eq!(asked(&[Name::Driving]).await, Err("driving is away".to_owned()));
        let several = asked(&[Name::Driving, Name::Payment, Name::Message]).await;
        let sentence = "driving is away (nor could payment, message be asked)";
        assert_eq!(several, Err(sentence.to_owned()));
    }
}
