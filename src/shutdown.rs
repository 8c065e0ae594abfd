//! The request to end, as every task sees it: SIGTERM, SIGINT, or the work being done.

use tokio::sync::watch;

/// Asks everything that holds a [`Shutdown`] to end.
#[derive(Debug, Clone)]
pub struct Trigger(watch::Sender<bool>);

/// Tells a task when to end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and what it triggers.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks for the end; more than once does no harm.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether the end was asked for.
    pub fn requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the end is asked for.
    pub async fn wait(&mut self) {
        // A trigger that is gone can no longer be fired: wait for ever, as its owner never asked.
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Fires on SIGTERM or SIGINT. A second signal ends the process at once, with the exit code that the shell expects.
pub fn on_signals(trigger: Trigger) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            if asked {
                std::process::exit(code);
            }
            asked = true;
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
