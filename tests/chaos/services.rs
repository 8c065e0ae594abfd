//! The services themselves: killed and started again, moved, slow to elect a leader.

use std::time::Duration;

use weather::embedded::{Api, Broker, ErrorCode, Fault, Options, Rule};

use crate::rig::Rig;
use crate::support::kafka::Version;
use crate::support::proxy::Protocol;
use crate::support::{Kafka, Postgres, Proxy};

const LOAD: [&str; 6] = ["--rate", "4000", "--late-ratio", "0.01", "--linger", "20ms"];

#[tokio::test]
async fn both_are_killed_and_started_again_under_load() {
    let _turn = crate::together().await;
    let (kafka, mut postgres) = tokio::join!(Kafka::private(Version::V4_1, &[]), Postgres::private(&[]));
    let mut rig = Rig::new(kafka, &postgres, "chaos_services", 4).await;
    let producer = rig.producer(&LOAD);
    let process = rig.process("one", &["--checkpoint-interval", "200ms"]);
    rig.wait_for_more().await;
    for round in 0..3 {
        postgres.kill().await;
        tokio::time::sleep(Duration::from_millis(300 * round)).await;
        postgres.start().await;
        println!("PostgreSQL killed: goes on after {:?}", rig.wait_for_more().await);
        rig.kafka.kill().await;
        tokio::time::sleep(Duration::from_millis(300 * round)).await;
        rig.kafka.start().await;
        println!("Kafka killed: goes on after {:?}", rig.wait_for_more().await);
    }
    assert!(process.status().is_none() && producer.status().is_none());
    rig.assert_exact(&[&producer, &process]).await;
}

/// Both clients know the cluster by one address that stays, and the broker behind it by one that changes.
#[tokio::test]
async fn a_broker_that_moves_and_leaders_that_change_are_followed() {
    let _turn = crate::together().await;
    let broker = Broker::start(Options::default()).await.expect("a broker");
    let kafka = || Kafka::at(broker.address().port());
    let bootstrap = Proxy::start(Protocol::KafkaAsItIs, broker.address().port()).await;
    let mut rig = Rig::new(kafka(), &Postgres::shared(), "chaos_moved", 4).await.kafka_through(&bootstrap);
    let producer = rig.producer(&LOAD);
    let process = rig.process("one", &[]);
    rig.wait_for_more().await;
    for _ in 0..3 {
        broker.stop().await;
        broker.restart_elsewhere().await.expect("a free port");
        bootstrap.connect_to(broker.address().port());
        rig.kafka = kafka();
        println!("moved: goes on after {:?}", rig.wait_for_more().await);
        for api in [Api::Produce, Api::Fetch] {
            broker.faults().arm(Rule::next(api, Fault::Error(ErrorCode::NotLeaderOrFollower)).times(6));
            broker.faults().arm(Rule::next(api, Fault::Error(ErrorCode::LeaderNotAvailable)).times(6));
            broker.faults().arm(Rule::next(api, Fault::ErrorAfter(ErrorCode::RequestTimedOut)).times(3));
        }
        println!("leaders moved: goes on after {:?}", rig.wait_for_more().await);
    }
    while broker.faults().armed() > 0 {
        rig.wait_for_more().await;
    }
    rig.assert_exact(&[&producer, &process]).await;
}
