//! The volume of checkpoint files: full, unwritable, gone while the program works, files exchanged.

use std::os::unix::fs::symlink;
use std::time::Duration;

use weather::engine::checkpoint::Checkpoint;

use crate::rig::Rig;
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Kafka, Postgres};

const LOAD: [&str; 6] = ["--rate", "3000", "--late-ratio", "0.01", "--malformed-ratio", "0.002"];
const OFTEN: [&str; 2] = ["--checkpoint-interval", "100ms"];

/// Leads the next file of a partition to a device that is always full.
fn fill_up(rig: &Rig, partition: i32) {
    symlink("/dev/full", next_file(rig, partition)).expect("the folder is ours");
}

fn next_file(rig: &Rig, partition: i32) -> std::path::PathBuf {
    rig.checkpoints.path().join(format!("{}-{partition}.ckpt.tmp", rig.topic))
}

#[tokio::test]
async fn a_full_or_read_only_volume_harms_nothing() {
    let _turn = crate::together().await;
    let rig = Rig::new(Kafka::shared(), &Postgres::shared(), "chaos_volume", 3).await;
    let producer = rig.producer(&LOAD);
    let process = rig.process("one", &OFTEN);
    rig.wait_for_more().await;
    fill_up(&rig, 0);
    let line = process.wait_for_line("No space left on device", RUN_LIMIT).await;
    println!("{line}");
    // A folder in the file's place takes no bytes, whoever asks: what a read-only volume does to others than root.
    std::fs::create_dir(next_file(&rig, 1)).expect("the folder is ours");
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.wait_for_more().await;
    let said = process.stderr().iter().filter(|line| line.contains("the checkpoint folder")).count();
    assert_eq!(said, 1, "the third partition's file is well all the time: {:#?}", process.stderr());
    // What the volume has is older than the table now.
    process.kill9().await;
    let second = rig.process("two", &OFTEN);
    second.wait_for_line("the database is ahead of it", RUN_LIMIT).await;
    rig.wait_for_more().await;
    std::fs::remove_file(next_file(&rig, 0)).expect("the folder is ours");
    std::fs::remove_dir(next_file(&rig, 1)).expect("the folder is ours");
    second.wait_for_line("the checkpoint folder", RUN_LIMIT).await;
    second.wait_for_line("is back", RUN_LIMIT).await;
    rig.assert_exact(&[&producer, &second]).await;
}

#[tokio::test]
async fn a_volume_that_goes_away_under_a_running_process_harms_nothing() {
    let _turn = crate::together().await;
    let rig = Rig::new(Kafka::shared(), &Postgres::shared(), "chaos_unmounted", 3).await;
    let producer = rig.producer(&LOAD);
    let process = rig.process("one", &OFTEN);
    rig.wait_for_more().await;
    let (folder, away) = (rig.checkpoints.path(), rig.checkpoints.path().with_extension("away"));
    std::fs::rename(folder, &away).expect("the folder is ours");
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.wait_for_more().await;
    process.kill9().await;
    // Another, empty volume is mounted in its place; then the old one again.
    let second = rig.process("two", &OFTEN);
    rig.wait_for_more().await;
    second.kill9().await;
    std::fs::remove_dir_all(folder).expect("the folder is ours");
    std::fs::rename(&away, folder).expect("the folder is ours");
    let third = rig.process("three", &OFTEN);
    third.wait_for_line("another owner since", RUN_LIMIT).await;
    rig.assert_exact(&[&producer, &third]).await;
}

#[tokio::test]
async fn exchanged_files_are_passed_over() {
    let _turn = crate::together().await;
    let rig = Rig::new(Kafka::shared(), &Postgres::shared(), "chaos_exchanged", 3).await;
    let more = async |seed| {
        let arguments = ["--count", "3000", "--rate", "0", "--backfill", "4h", "--seed", seed];
        rig.producer(&[&arguments[..], &LOAD[2..]].concat()).succeed(RUN_LIMIT).await;
    };
    more("1").await;
    rig.drain().await;
    more("2").await;
    let file = |partition: i32| rig.checkpoints.path().join(format!("{}-{partition}.ckpt", rig.topic));
    for partition in 0..3 {
        // So that nothing whole is left to fall back on.
        let _ = std::fs::remove_file(file(partition).with_extension("ckpt.prev"));
    }
    let kept = std::fs::read(file(0)).expect("it is there");
    std::fs::rename(file(1), file(0)).expect("it is there");
    std::fs::write(file(1), &kept).expect("the folder is ours");
    let other = Checkpoint { topic: "another".to_owned(), ..Checkpoint::decode(&kept).expect("it is whole") };
    std::fs::write(file(2), other.encode()).expect("the folder is ours");
    let said = rig.drain().await.stderr().join("\n");
    assert_eq!(said.matches("is of partition").count(), 3, "{said}");
    rig.assert_exact(&[]).await;
}
