//! The bytes of a partition's checkpoint. `processor::checkpoints::task` stores them; [`recovery`](crate::engine::recovery)
//! decides whether they may be used.
//!
//! Format, little endian: magic, version, payload length, payload, CRC-32 of all before. A version that is newer than
//! this program is refused, because what it means is not known here. Version 1 is read: it knew its log by two records
//! and recognized retries by producers' sequence numbers, which are skipped, and it had neither extremes nor a digest of its
//! windows.

mod checksum;

use std::fmt;

use crate::engine::dead_letter::DeadLetter;
use crate::engine::state::{FIRST_WORDS, LogIdentity, PartitionState, Progress, WORDS};
use crate::engine::stations::{StationRow, StationTotals};
use crate::engine::window::{FIRST_TOTALS_WORDS, METRICS, TOTALS_WORDS, Totals, Window};
use crate::reading::Reason;

use checksum::crc32;

const MAGIC: &[u8; 8] = b"weather\n";
/// The format that this program writes.
pub const VERSION: u32 = 2;
const HEADER: usize = 8 + 4 + 8;
const CHECKSUM: usize = 4;
/// About what a station takes: its window, its totals, its name.
const STATION_BYTES: usize = 15 * 8 + 24;

/// A partition's state at one offset, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its topic.
    pub topic: String,
    /// The Kafka cluster that the topic is in; empty where that is not known.
    pub cluster_id: String,
    /// Its partition.
    pub partition: i32,
    /// The epoch under which it was written.
    pub epoch: i64,
    /// The length of its windows, ms.
    pub window_ms: i64,
    /// When it was written, ms since 1970; for people.
    pub written_ms: i64,
    /// The state.
    pub state: PartitionState,
    /// Dead letters that PostgreSQL had not confirmed.
    pub pending: Vec<DeadLetter>,
    /// Stations that changed since PostgreSQL's last confirmation; it has the others.
    pub stations: Vec<StationRow>,
}

/// Why bytes are not a usable checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointError {
    /// Not a checkpoint file at all.
    NotACheckpoint,
    /// Shorter than its length field: written in part.
    Torn,
    /// The checksum does not match: changed after it was written.
    Corrupt,
    /// Written by a newer version of this program.
    TooNew(u32),
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACheckpoint => f.write_str("not a checkpoint file"),
            Self::Torn => f.write_str("incomplete"),
            Self::Corrupt => f.write_str("checksum mismatch"),
            Self::TooNew(version) => {
                write!(f, "format {version} is newer than this program supports ({VERSION})")
            }
        }
    }
}

impl std::error::Error for CheckpointError {}

impl Checkpoint {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.stations.iter().map(|row| (row.start_ms, &*row.station, row.totals));
        self.encode_with(self.stations.len(), rows)
    }

    /// The bytes of the file with these stations, which there may be too many of to be copied into it first: window,
    /// station and totals of each.
    pub fn encode_with<'a>(
        &self,
        count: usize,
        stations: impl Iterator<Item = (i64, &'a str, StationTotals)>,
    ) -> Vec<u8> {
        let mut file = Encoder(Vec::with_capacity(self.room() + count * STATION_BYTES));
        file.0.extend_from_slice(MAGIC);
        file.0.extend_from_slice(&VERSION.to_le_bytes());
        let length_at = file.0.len();
        file.len(0);
        self.encode_own(&mut file);
        file.len(count);
        stations.for_each(|row| encode_station(&mut file, row));
        // A length in memory is within i64.
        let length = (file.0.len() - HEADER) as i64;
        file.0[length_at..HEADER].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32(&file.0);
        file.0.extend_from_slice(&checksum.to_le_bytes());
        file.0
    }

    /// All but the stations.
    fn encode_own(&self, into: &mut Encoder) {
        into.bytes(self.topic.as_bytes());
        into.bytes(self.cluster_id.as_bytes());
        into.i64(i64::from(self.partition));
        into.i64(self.epoch);
        into.i64(self.window_ms);
        into.i64(self.written_ms);
        self.state.progress.to_words().iter().for_each(|word| into.i64(*word));
        encode_log(into, self.state.log);
        into.len(self.state.windows.len());
        self.state.windows.iter().for_each(|window| encode_window(into, window));
        into.len(self.pending.len());
        self.pending.iter().for_each(|dead_letter| encode_dead_letter(into, dead_letter));
    }

    /// About what it takes without stations, in bytes.
    fn room(&self) -> usize {
        let pending: usize = self.pending.iter().map(DeadLetter::cost).sum();
        1024 + size_of_val(&*self.state.windows) + pending
    }

    /// Reads the bytes of a file.
    pub fn decode(file: &[u8]) -> Result<Self, CheckpointError> {
        let magic = &file[..file.len().min(MAGIC.len())];
        if magic.is_empty() || *magic != MAGIC[..magic.len()] {
            return Err(CheckpointError::NotACheckpoint);
        }
        let mut header = Decoder(file.get(MAGIC.len()..HEADER).ok_or(CheckpointError::Torn)?);
        let version = header.u32()?;
        let length = usize::try_from(header.i64()?).map_err(|_| CheckpointError::Corrupt)?;
        if version > VERSION {
            return Err(CheckpointError::TooNew(version));
        }
        let body = HEADER.checked_add(length).ok_or(CheckpointError::Corrupt)?;
        let checksum =
            file.get(body..).ok_or(CheckpointError::Torn)?.get(..CHECKSUM).ok_or(CheckpointError::Torn)?;
        if checksum != crc32(&file[..body]).to_le_bytes() {
            return Err(CheckpointError::Corrupt);
        }
        Self::decode_payload(&file[HEADER..body], version)
    }

    fn decode_payload(payload: &[u8], version: u32) -> Result<Self, CheckpointError> {
        let mut from = Decoder(payload);
        let topic = from.text()?;
        let cluster_id = if version == 1 { String::new() } else { from.text()? };
        let partition = i32::try_from(from.i64()?).map_err(|_| CheckpointError::Corrupt)?;
        let (epoch, window_ms, written_ms) = (from.i64()?, from.i64()?, from.i64()?);
        let mut words = [0; WORDS];
        let stored = if version == 1 { FIRST_WORDS } else { WORDS };
        for word in &mut words[..stored] {
            *word = from.i64()?;
        }
        let log = decode_log(&mut from, version)?;
        let windows =
            (0..from.len()?).map(|_| decode_window(&mut from, version)).collect::<Result<_, _>>()?;
        let pending = (0..from.len()?).map(|_| decode_dead_letter(&mut from)).collect::<Result<_, _>>()?;
        let stations = match version {
            1 => Vec::new(),
            _ => (0..from.len()?).map(|_| decode_station(&mut from)).collect::<Result<_, _>>()?,
        };
        let state = PartitionState { progress: Progress::from_words(&words), windows, log };
        Ok(Self { topic, cluster_id, partition, epoch, window_ms, written_ms, state, pending, stations })
    }
}

/// The part of a state that PostgreSQL keeps as one opaque value: which log the offsets belong to.
pub fn encode_log_memory(log: LogIdentity) -> Vec<u8> {
    let mut into = Encoder::default();
    into.0.extend_from_slice(&VERSION.to_le_bytes());
    encode_log(&mut into, log);
    into.0
}

/// What [`encode_log_memory`] wrote.
pub fn decode_log_memory(bytes: &[u8]) -> Result<LogIdentity, CheckpointError> {
    let mut from = Decoder(bytes);
    let version = from.u32()?;
    if version > VERSION {
        return Err(CheckpointError::TooNew(version));
    }
    decode_log(&mut from, version)
}

fn encode_log(into: &mut Encoder, log: LogIdentity) {
    into.0.extend_from_slice(&log.topic_id);
    into.i64(i64::from(log.leader_epoch));
}

fn decode_log(from: &mut Decoder<'_>, version: u32) -> Result<LogIdentity, CheckpointError> {
    if version == 1 {
        // Offset and hash of two records, then number, sequence and offset of each run of a producer.
        from.take(4 * 8)?;
        let runs = from.len()?;
        from.take(runs.checked_mul(3 * 8).ok_or(CheckpointError::Corrupt)?)?;
        return Ok(LogIdentity::UNKNOWN);
    }
    let topic_id = from.take(16)?.try_into().map_err(|_| CheckpointError::Corrupt)?;
    let leader_epoch = i32::try_from(from.i64()?).map_err(|_| CheckpointError::Corrupt)?;
    Ok(LogIdentity { topic_id, leader_epoch })
}

fn encode_window(into: &mut Encoder, window: &Window) {
    into.i64(window.start_ms);
    window.totals.to_words().iter().for_each(|word| into.i64(*word));
}

fn decode_window(from: &mut Decoder<'_>, version: u32) -> Result<Window, CheckpointError> {
    let start_ms = from.i64()?;
    let totals = match version {
        1 => Totals::from_first_words(&from.words::<FIRST_TOTALS_WORDS>()?),
        _ => Totals::from_words(&from.words::<TOTALS_WORDS>()?),
    };
    Ok(Window { start_ms, totals })
}

fn encode_dead_letter(into: &mut Encoder, dead_letter: &DeadLetter) {
    into.i64(dead_letter.incarnation);
    into.i64(dead_letter.offset);
    into.i64(dead_letter.reason.index() as i64);
    into.i64(dead_letter.payload_bytes);
    into.i64(i64::from(dead_letter.payload.is_some()));
    into.bytes(dead_letter.payload.as_deref().unwrap_or_default());
}

fn decode_dead_letter(from: &mut Decoder<'_>) -> Result<DeadLetter, CheckpointError> {
    let (incarnation, offset) = (from.i64()?, from.i64()?);
    let reason = usize::try_from(from.i64()?).ok().and_then(|i| Reason::ALL.get(i).copied());
    let (payload_bytes, has_payload) = (from.i64()?, from.i64()? != 0);
    let payload = from.bytes()?.into();
    let reason = reason.ok_or(CheckpointError::Corrupt)?;
    Ok(DeadLetter { incarnation, offset, reason, payload: has_payload.then_some(payload), payload_bytes })
}

fn encode_station(into: &mut Encoder, (start_ms, station, totals): (i64, &str, StationTotals)) {
    into.i64(start_ms);
    into.bytes(station.as_bytes());
    into.i64(totals.readings);
    totals.counts.iter().chain(&totals.sums).for_each(|word| into.i64(*word));
    // No metric is so; neither is it known where there is none.
    (0..METRICS).for_each(|i| into.i64(totals.least(i).unwrap_or(i64::MIN)));
    (0..METRICS).for_each(|i| into.i64(totals.greatest(i).unwrap_or(i64::MIN)));
}

fn decode_station(from: &mut Decoder<'_>) -> Result<StationRow, CheckpointError> {
    let start_ms = from.i64()?;
    let station = std::str::from_utf8(from.bytes()?).map_err(|_| CheckpointError::Corrupt)?.into();
    let (readings, counts, sums) = (from.i64()?, from.words()?, from.words()?);
    let known = |words: [i64; METRICS]| words.map(|word| (word != i64::MIN).then_some(word));
    let (least, greatest) = (known(from.words()?), known(from.words()?));
    Ok(StationRow { start_ms, station, totals: StationTotals::of(readings, counts, sums, least, greatest) })
}

#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn len(&mut self, value: usize) {
        // A length in memory is within i64.
        self.i64(value as i64);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.len(value.len());
        self.0.extend_from_slice(value);
    }
}

/// Takes from the front; running out means that the bytes are not a checkpoint.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CheckpointError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CheckpointError::Corrupt)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, CheckpointError> {
        let bytes = self.take(4)?.try_into().map_err(|_| CheckpointError::Corrupt)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn i64(&mut self) -> Result<i64, CheckpointError> {
        let bytes = self.take(8)?.try_into().map_err(|_| CheckpointError::Corrupt)?;
        Ok(i64::from_le_bytes(bytes))
    }

    fn words<const N: usize>(&mut self) -> Result<[i64; N], CheckpointError> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.i64()?;
        }
        Ok(words)
    }

    fn len(&mut self) -> Result<usize, CheckpointError> {
        usize::try_from(self.i64()?).map_err(|_| CheckpointError::Corrupt)
    }

    fn bytes(&mut self) -> Result<&'a [u8], CheckpointError> {
        let length = self.len()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, CheckpointError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| CheckpointError::Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let mut state = PartitionState::starting_at(100);
        state.progress.next_offset = 160;
        state.progress.flushed_offset = 130;
        state.progress.aggregated = 60;
        state.windows = (0..5)
            .map(|i| Window {
                start_ms: i * 10,
                totals: Totals::from_words(&std::array::from_fn(|word| i - 3 * word as i64)),
            })
            .collect();
        state.log = LogIdentity { topic_id: [0xA5; 16], leader_epoch: 4 };
        let mut totals = Totals::default();
        let metrics = [Some(7), None, Some(-9)];
        totals.add(140, &crate::reading::Reading { event_time_ms: 10, metrics, left_out: [None; 3] });
        let dead_letter = |payload| DeadLetter {
            incarnation: 0,
            offset: 140,
            reason: Reason::Late,
            payload,
            payload_bytes: 3,
        };
        let pending =
            vec![dead_letter(None), dead_letter(Some([1, 2, 3].into())), dead_letter(Some([].into()))];
        Checkpoint {
            topic: "weather_data".into(),
            cluster_id: "5L6g3nShT-eMCtK--X86sw".into(),
            partition: 3,
            epoch: 7,
            window_ms: 10,
            written_ms: 1,
            state,
            pending,
            stations: vec![StationRow {
                start_ms: 10,
                station: "été".into(),
                totals: StationTotals::from(&totals),
            }],
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        assert_eq!(Checkpoint::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn log_memory_reads_what_it_wrote() {
        let log = sample().state.log;
        assert_eq!(decode_log_memory(&encode_log_memory(log)), Ok(log));
        assert!(decode_log_memory(&[]).is_err());
        // Version 1: two known records, one run of a producer.
        let first = [&1_u32.to_le_bytes()[..], &[7; 4 * 8], &1_i64.to_le_bytes(), &[9; 3 * 8]].concat();
        assert_eq!(decode_log_memory(&first), Ok(LogIdentity::UNKNOWN));
        assert_eq!(decode_log_memory(&first[..first.len() - 1]), Err(CheckpointError::Corrupt));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let file = sample().encode();
        for length in 0..file.len() {
            assert!(Checkpoint::decode(&file[..length]).is_err(), "cut to {length}");
        }
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut file = sample().encode();
        file[8] = VERSION as u8 + 1;
        assert_eq!(Checkpoint::decode(&file), Err(CheckpointError::TooNew(VERSION + 1)));
    }
}
