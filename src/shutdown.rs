//! Shutdown as every task sees it: requested by SIGTERM or SIGINT, or because the work is done.

use tokio::sync::watch;

/// Requests shutdown from everything that holds a [`Shutdown`].
#[derive(Debug, Clone)]
pub struct Trigger(watch::Sender<bool>);

/// Tells a task when to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and what it triggers.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Requests shutdown; again is harmless.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether shutdown was requested.
    pub fn requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when shutdown is requested.
    pub async fn wait(&mut self) {
        // A dropped trigger can no longer be fired, so shutdown will never be requested.
        if self.0.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Fires on SIGTERM or SIGINT. A second signal exits at once, with the code that shells use for that signal.
pub fn on_signals(trigger: Trigger) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut requested = false;
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            if requested {
                std::process::exit(code);
            }
            requested = true;
            trigger.fire();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fires_once_for_all() {
        let (trigger, shutdown) = channel();
        let mut other = shutdown.clone();
        assert!(!shutdown.requested());
        trigger.fire();
        trigger.fire();
        other.wait().await;
        assert!(shutdown.requested());
    }
}
