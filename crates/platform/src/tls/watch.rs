//! Files that are looked at again and again.

use std::time::Duration;

use tokio::sync::watch::{self, Receiver};
use tokio::time::sleep;

use super::TlsError;
use super::pem::Identity;
use crate::metrics::Gauge;

static EXPIRY: Gauge =
    Gauge::new("taxi.tls.expiry", "s", "When the certificate in use expires, since 1970");

/// What can be read, and turned into something to use.
pub(super) trait Files: Clone + Send + 'static {
    /// What is in the files.
    type Content: PartialEq + Send + 'static;
    /// What is made of it.
    type Made: Send + Sync + 'static;

    fn read(&self) -> Result<Self::Content, TlsError>;
    fn make(content: &Self::Content) -> Result<Self::Made, TlsError>;
    /// Our own certificate, if there is one.
    fn identity(content: &Self::Content) -> Option<&Identity>;
}

/// What is made of these files, and what is made of them later, for as long as somebody wants to
/// know. `name` is what the log calls them.
pub(super) fn follow<F: Files>(
    name: &'static str,
    files: F,
    period: Duration,
) -> Result<Receiver<F::Made>, TlsError> {
    let content = files.read()?;
    let (tell, told) = watch::channel(F::make(&content)?);
    show::<F>(name, &content);
    tokio::spawn(async move {
        let follow = async {
            let mut follower = Follower { name, files, content, trouble: None };
            loop {
                sleep(period).await;
                if let Some(made) = follower.look().await {
                    tell.send_replace(made);
                }
            }
        };
        tokio::select! {
            () = follow => {}
            () = tell.closed() => {}
        }
    });
    Ok(told)
}

struct Follower<F: Files> {
    name: &'static str,
    files: F,
    /// What is in use.
    content: F::Content,
    trouble: Option<Trouble>,
}

/// What is wrong, and whether the log knows.
struct Trouble {
    what: String,
    told: bool,
}

impl<F: Files> Follower<F> {
    /// What is made of the files, if they have changed and can be used.
    async fn look(&mut self) -> Option<F::Made> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await.ok()?;
        let made = read.and_then(|content| match content == self.content {
            true => Ok(None),
            false => F::make(&content).map(|made| Some((content, made))),
        });
        match made {
            Ok(changed) => {
                self.trouble = None;
                let (content, made) = changed?;
                self.content = content;
                tracing::info!(tls = self.name, "certificates were replaced");
                show::<F>(self.name, &self.content);
                Some(made)
            }
            Err(error) => {
                self.complain(error.to_string());
                None
            }
        }
    }

    /// Says what is wrong: once, and only if it was so the last time too, for several files are not
    /// replaced in one moment.
    fn complain(&mut self, what: String) {
        match &mut self.trouble {
            Some(trouble) if trouble.what == what => {
                if !std::mem::replace(&mut trouble.told, true) {
                    let what = &trouble.what;
                    tracing::error!(tls = self.name, what, "certificates were not replaced");
                }
            }
            _ => self.trouble = Some(Trouble { what, told: false }),
        }
    }
}

/// Lets it be seen until when what is in use is valid.
fn show<F: Files>(name: &'static str, content: &F::Content) {
    if let Some(expiry) = F::identity(content).and_then(Identity::expiry) {
        EXPIRY.set(expiry.as_secs(), [("name", name)]);
    }
}
