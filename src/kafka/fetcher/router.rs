//! From lanes without a broker to the broker that leads them, by metadata that are newer than what went wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::{SharedFetcher, broker};

/// Routes lanes as they come and are lost. Never ends.
pub(super) async fn route(shared: Arc<SharedFetcher>) {
    let mut wake = shared.changed.subscribe();
    let mut serving = JoinSet::new();
    let mut served = BTreeSet::new();
    loop {
        wake.borrow_and_update();
        let stranded = shared.lanes().stranded();
        let Some((not_before, since)) = stranded else {
            if wake.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            () = sleep_until(not_before) => {}
            // A lane that came may be due earlier.
            _ = wake.changed() => continue,
        }
        match shared.cluster.metadata_since(since).await {
            Ok(metadata) => {
                let brokers = shared.lanes().route(&metadata);
                for broker in brokers {
                    if served.insert(broker) {
                        serving.spawn(broker::serve(Arc::clone(&shared), broker));
                    }
                }
            }
            Err(error) => shared.lanes().no_metadata(&error),
        }
        shared.changed.send_replace(());
    }
}
