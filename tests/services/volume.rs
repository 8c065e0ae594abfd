//! The volume of checkpoint files: full, unwritable, gone; files that are damaged, exchanged, too old or too new.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use weather::engine::checkpoint::Checkpoint;

use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Folder, Kafka, Pipeline, Postgres, Weather, turn};

const LOAD: [&str; 6] = ["--rate", "3000", "--late-ratio", "0.01", "--malformed-ratio", "0.002"];
const OFTEN: [&str; 2] = ["--checkpoint-interval", "100ms"];

/// Links the next file of a partition to a device that is always full.
fn fill_up(pipeline: &Pipeline, partition: i32) {
    symlink("/dev/full", next_file(pipeline, partition)).expect("the folder is ours");
}

fn next_file(pipeline: &Pipeline, partition: i32) -> std::path::PathBuf {
    pipeline.checkpoints.path().join(format!("{}-{partition}.ckpt.tmp", pipeline.topic))
}

#[tokio::test]
async fn a_full_or_read_only_volume_harms_nothing() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "volume", 3).await;
    let producer = pipeline.producer(&LOAD);
    let process = pipeline.process("one", &OFTEN);
    pipeline.wait_for_more().await;
    fill_up(&pipeline, 0);
    let line = process.wait_for_line("No space left on device", RUN_LIMIT).await;
    println!("{line}");
    // A folder in the file's place cannot be written, even by root: as a read-only volume for any other user.
    std::fs::create_dir(next_file(&pipeline, 1)).expect("the folder is ours");
    tokio::time::sleep(Duration::from_secs(2)).await;
    pipeline.wait_for_more().await;
    let said = process.stderr().iter().filter(|line| line.contains("the checkpoint folder")).count();
    assert_eq!(said, 1, "the third partition's file can be written all the time: {:#?}", process.stderr());
    // The files are older than the table now.
    process.kill9().await;
    let second = pipeline.process("two", &OFTEN);
    second.wait_for_line("the database is ahead of it", RUN_LIMIT).await;
    pipeline.wait_for_more().await;
    std::fs::remove_file(next_file(&pipeline, 0)).expect("the folder is ours");
    std::fs::remove_dir(next_file(&pipeline, 1)).expect("the folder is ours");
    second.wait_for_line("the checkpoint folder", RUN_LIMIT).await;
    second.wait_for_line("is back", RUN_LIMIT).await;
    pipeline.assert_exact(&[&producer, &second]).await;
}

#[tokio::test]
async fn a_volume_that_goes_away_under_a_running_process_harms_nothing() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "unmounted", 3).await;
    let producer = pipeline.producer(&LOAD);
    let process = pipeline.process("one", &OFTEN);
    pipeline.wait_for_more().await;
    let (folder, away) = (pipeline.checkpoints.path(), pipeline.checkpoints.path().with_extension("away"));
    std::fs::rename(folder, &away).expect("the folder is ours");
    tokio::time::sleep(Duration::from_secs(1)).await;
    pipeline.wait_for_more().await;
    process.kill9().await;
    // Another, empty volume is mounted in its place; then the old one again.
    let second = pipeline.process("two", &OFTEN);
    pipeline.wait_for_more().await;
    second.kill9().await;
    std::fs::remove_dir_all(folder).expect("the folder is ours");
    std::fs::rename(&away, folder).expect("the folder is ours");
    let third = pipeline.process("three", &OFTEN);
    third.wait_for_line("another owner since", RUN_LIMIT).await;
    pipeline.assert_exact(&[&producer, &third]).await;
}

#[tokio::test]
async fn exchanged_files_are_ignored() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "exchanged", 3).await;
    let more = async |seed| {
        let arguments = ["--count", "3000", "--rate", "0", "--backfill", "4h", "--seed", seed];
        pipeline.producer(&[&arguments[..], &LOAD[2..]].concat()).succeed(RUN_LIMIT).await;
    };
    more("1").await;
    pipeline.drain().await;
    more("2").await;
    let file =
        |partition: i32| pipeline.checkpoints.path().join(format!("{}-{partition}.ckpt", pipeline.topic));
    for partition in 0..3 {
        // So that there is no whole file to fall back on.
        let _ = std::fs::remove_file(file(partition).with_extension("ckpt.prev"));
    }
    let kept = std::fs::read(file(0)).expect("it is there");
    std::fs::rename(file(1), file(0)).expect("it is there");
    std::fs::write(file(1), &kept).expect("the folder is ours");
    let other = Checkpoint { topic: "another".to_owned(), ..Checkpoint::decode(&kept).expect("it is whole") };
    std::fs::write(file(2), other.encode()).expect("the folder is ours");
    let said = pipeline.drain().await.stderr().join("\n");
    assert_eq!(said.matches("belongs to partition").count(), 3, "{said}");
    pipeline.assert_exact(&[]).await;
}

/// A topic of which half is processed, its files, and the state of PostgreSQL that belongs to them.
pub(crate) async fn stopped_half_way(label: &str) -> Pipeline {
    let pipeline = Pipeline::new(label).await;
    let first = ["--count", "20000", "--rate", "0", "--partitions", "2", "--backfill", "5h"];
    pipeline.produce(&[&first[..], &["--late-ratio", "0.01", "--malformed-ratio", "0.001"]].concat()).await;
    pipeline.drain().await;
    pipeline.produce(&["--count", "20000", "--rate", "0", "--backfill", "4h", "--seed", "7"]).await;
    pipeline
}

/// The files in a folder whose names end so.
pub(crate) fn files(folder: &Folder, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path()).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[tokio::test]
async fn damaged_files_are_ignored() {
    let _turn = turn::light().await;
    let pipeline = stopped_half_way("damaged").await;
    let current = files(&pipeline.checkpoints, ".ckpt");
    assert_eq!(current.len(), 2);
    let whole = std::fs::read(&current[0]).expect("it can be read");
    std::fs::write(&current[0], &whole[..whole.len() / 2]).expect("it can be written");
    let mut flipped = std::fs::read(&current[1]).expect("it can be read");
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    std::fs::write(&current[1], &flipped).expect("it can be written");
    let run = pipeline.drain().await;
    let said = run.stderr().join("\n");
    assert!(said.contains("incomplete") && said.contains("checksum mismatch"), "{said}");
    pipeline.assert_table().await;
}

#[tokio::test]
async fn files_of_an_older_state_are_ignored() {
    let _turn = turn::light().await;
    let pipeline = stopped_half_way("older").await;
    let kept: Vec<(PathBuf, Vec<u8>)> = files(&pipeline.checkpoints, ".ckpt")
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).expect("it can be read")))
        .collect();
    pipeline.drain().await;
    pipeline.produce(&["--count", "5000", "--rate", "0", "--backfill", "1h", "--seed", "8"]).await;
    for (path, bytes) in kept {
        std::fs::write(path, bytes).expect("it can be written");
    }
    let run = pipeline.drain().await;
    assert!(run.stderr().join("\n").contains("another owner since"), "{:?}", run.stderr());
    pipeline.assert_table().await;
}

#[tokio::test]
async fn the_volume_may_be_lost() {
    let _turn = turn::light().await;
    let pipeline = stopped_half_way("volume").await;
    std::fs::remove_dir_all(pipeline.checkpoints.path()).expect("it can be removed");
    pipeline.drain().await;
    pipeline.assert_table().await;
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let _turn = turn::light().await;
    let pipeline = stopped_half_way("newer").await;
    let path = files(&pipeline.checkpoints, ".ckpt").remove(0);
    let mut bytes = std::fs::read(&path).expect("it can be read");
    bytes[8] = 200;
    std::fs::write(&path, bytes).expect("it can be written");
    let run = pipeline.spawn(&["--until-latest"]);
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(2));
    assert!(run.stderr().join("\n").contains("newer than this program"), "{:?}", run.stderr());
}

/// A file whose numbers contradict each other though its checksum is right: as a bug would write it.
#[tokio::test]
async fn a_state_that_cannot_be_right_stops_the_process_before_anything_is_written() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("impossible", 1).await;
    pipeline.produce(&["--count", "500", "--rate", "0", "--partitions", "1"]).await;
    pipeline.drain().await;
    let before = pipeline.table().await;
    let file = pipeline.checkpoints.path().join(format!("{}-0.ckpt", pipeline.topic));
    let bytes = std::fs::read(&file).expect("a run that ended has written it");
    let mut checkpoint = Checkpoint::decode(&bytes).expect("it is whole");
    checkpoint.state.progress.aggregated += 1;
    std::fs::write(&file, checkpoint.encode()).expect("the folder is ours");
    pipeline.produce(&["--count", "500", "--rate", "0", "--partitions", "1"]).await;

    let run = pipeline.spawn(&[]);
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(1));
    let said = run.stderr().join("\n");
    assert!(said.contains("internal error: not every offset is accounted for exactly once"), "{said}");
    assert_eq!(pipeline.table().await, before, "nothing of it is written");
    // What is in the table is right: without the file the next run continues from it.
    std::fs::remove_file(&file).expect("the folder is ours");
    pipeline.drain().await;
    assert_eq!(pipeline.readings().await, 1_000);
}

#[tokio::test]
async fn processes_that_start_at_once_on_one_folder_do_not_disturb_each_other() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("at_once", 2).await;
    pipeline.produce(&["--count", "200", "--rate", "0"]).await;
    pipeline.drain().await;
    for _ in 0..5 {
        let runs: Vec<_> = (0..6).map(|_| pipeline.spawn(&["--until-latest"])).collect();
        for run in &runs {
            run.succeed(RUN_LIMIT).await;
        }
    }
    pipeline.assert_table().await;
}

#[tokio::test]
async fn few_file_descriptors_are_enough_for_many_partitions() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("descriptors", 100).await;
    pipeline.produce(&["--count", "5000", "--rate", "0", "--backfill", "2h"]).await;
    let arguments = ["process", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic, "--listen", ""];
    let own = ["--database-url", &pipeline.url, "--checkpoint-dir", pipeline.folder(), "--until-latest"];
    let run = Weather::command(arguments.iter().chain(&own)).open_files(64).spawn();
    run.succeed(RUN_LIMIT).await;
    pipeline.assert_table().await;
}
