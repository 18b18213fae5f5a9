//! What is measured of the server, again and again, in memory that does not grow.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::options::CliError;

/// Most samples that are kept: one every ten seconds for more than five hours. It is even, so that they can be joined in pairs.
const KEPT_MAX: usize = 2_048;

/// The fields of a line of the file with all samples.
const FIELDS: &str = "seconds,memory_bytes,handles,threads,late_p50_ms,late_p99_ms,late_max_ms,cores,rooms,rooms_played,rooms_opened,members,\
                      joined,ticks_skipped,disk_bytes,ticks";

/// How the server did, as of a moment or since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// When, since the beginning.
    pub(super) seconds: f64,
    pub(super) memory_bytes: u64,
    pub(super) handles: u64,
    pub(super) threads: u64,
    /// How late ticks began that began since the sample before: half of them at most so late, 99 of 100, all.
    pub(super) p50_millis: f64,
    pub(super) p99_millis: f64,
    pub(super) max_millis: f64,
    /// How much of the processor it had since the sample before, from 0 to the number of cores.
    pub(super) cores: f64,
    /// Rooms that are open.
    pub(super) rooms: u64,
    /// Rooms that somebody is in.
    pub(super) played: u64,
    /// Rooms that were opened so far.
    pub(super) opened: u64,
    pub(super) members: u64,
    /// Members that joined so far.
    pub(super) joined: u64,
    /// Ticks that were given up so far.
    pub(super) skipped: u64,
    pub(super) disk_bytes: u64,
    /// Ticks that ran since the sample before, of all rooms.
    pub(super) ticks: u64,
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The names above the rows.
pub(super) fn heading() -> String {
    format!(
        "{:>8} {:>9} {:>7} {:>7} | late ms {:>7} {:>8} {:>8} | {:>5} | {:>5} {:>6} {:>6} | {:>7} {:>8} {:>8} | {:>9}",
        "minutes",
        "memory MB",
        "handles",
        "threads",
        "p50",
        "p99",
        "max",
        "cores",
        "rooms",
        "played",
        "opened",
        "members",
        "joined",
        "skipped",
        "disk MB",
    )
}

impl Sample {
    /// One for two that follow each other. No peak of either is lost.
    fn joined_with(&self, later: &Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(later.memory_bytes),
            handles: self.handles.max(later.handles),
            threads: self.threads.max(later.threads),
            p50_millis: self.p50_millis.max(later.p50_millis),
            p99_millis: self.p99_millis.max(later.p99_millis),
            max_millis: self.max_millis.max(later.max_millis),
            cores: self.cores.max(later.cores),
            ticks: self.ticks + later.ticks,
            ..*later
        }
    }

    /// For people.
    pub(super) fn row(&self) -> String {
        format!(
            "{:>8.1} {:>9.1} {:>7} {:>7} | {:>15.2} {:>8.2} {:>8.2} | {:>5.2} | {:>5} {:>6} {:>6} | {:>7} {:>8} {:>8} | {:>9.1}",
            self.seconds / 60.0,
            megabytes(self.memory_bytes),
            self.handles,
            self.threads,
            self.p50_millis,
            self.p99_millis,
            self.max_millis,
            self.cores,
            self.rooms,
            self.played,
            self.opened,
            self.members,
            self.joined,
            self.skipped,
            megabytes(self.disk_bytes),
        )
    }

    /// For programs.
    fn line(&self) -> String {
        format!(
            "{:.3},{},{},{},{:.3},{:.3},{:.3},{:.3},{},{},{},{},{},{},{},{}\n",
            self.seconds,
            self.memory_bytes,
            self.handles,
            self.threads,
            self.p50_millis,
            self.p99_millis,
            self.max_millis,
            self.cores,
            self.rooms,
            self.played,
            self.opened,
            self.members,
            self.joined,
            self.skipped,
            self.disk_bytes,
            self.ticks,
        )
    }
}

/// Samples in the order of their time, at even distances. Where there are too many, two that follow each other become one, and so do those that come.
#[derive(Debug)]
pub(super) struct Series {
    kept: Vec<Sample>,
    most: usize,
    /// How many samples each that is kept stands for.
    each: u32,
    /// What is put together of those that come, and of how many.
    next: Option<Sample>,
    in_next: u32,
}

impl Default for Series {
    fn default() -> Self {
        Self::of(KEPT_MAX)
    }
}

impl Series {
    fn of(most: usize) -> Self {
        // All of it from the beginning: what it takes is part of what is measured.
        Self { kept: Vec::with_capacity(most), most, each: 1, next: None, in_next: 0 }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        let next = self.next.take().map_or(sample, |before| before.joined_with(&sample));
        self.in_next += 1;
        if self.in_next < self.each {
            self.next = Some(next);
            return;
        }
        self.in_next = 0;
        self.kept.push(next);
        if self.kept.len() >= self.most {
            let joined = |pair: &[Sample]| pair.first().zip(pair.last()).map(|(one, other)| one.joined_with(other));
            let halves: Vec<Sample> = self.kept.chunks(2).filter_map(joined).collect();
            self.kept.clear();
            self.kept.extend(halves);
            self.each *= 2;
        }
    }

    pub(super) fn samples(&self) -> &[Sample] {
        &self.kept
    }
}

/// A file with every sample, written as they come: it is good as far as it goes, whatever becomes of the process.
#[derive(Debug)]
pub(super) struct Csv {
    file: File,
    path: PathBuf,
}

impl Csv {
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        let file = File::create(path).map_err(|error| CliError::Io { what: format!("the samples {}", path.display()), error })?;
        let mut csv = Self { file, path: path.to_owned() };
        csv.write(&format!("{FIELDS}\n"))?;
        Ok(csv)
    }

    pub(super) fn add(&mut self, sample: &Sample) -> Result<(), CliError> {
        self.write(&sample.line())
    }

    fn write(&mut self, line: &str) -> Result<(), CliError> {
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|error| CliError::Io { what: format!("the samples {}", self.path.display()), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u32) -> Sample {
        Sample { seconds: f64::from(number), memory_bytes: 1_000, handles: 20, joined: u64::from(number), ..Sample::default() }
    }

    #[test]
    fn of_any_number_of_samples_few_are_kept_evenly_and_to_the_end() {
        let mut series = Series::of(16);
        let capacity = series.kept.capacity();
        for number in 1..=10_000 {
            series.add(sample(number));
            let kept = series.samples();
            assert!(kept.len() < 16 && (number < 16 || kept.len() >= 8), "{} of {number}", kept.len());
        }
        let kept = series.samples();
        let apart: Vec<f64> = kept.windows(2).map(|pair| pair[1].seconds - pair[0].seconds).collect();
        assert!(apart.iter().all(|apart| *apart == f64::from(series.each)), "{apart:?}");
        assert!(kept.last().unwrap().seconds > 9_000.0 && kept[0].seconds == f64::from(series.each), "{kept:?}");
        assert_eq!(series.kept.capacity(), capacity);
    }

    #[test]
    fn all_are_kept_while_there_are_few() {
        let mut series = Series::default();
        (1..=700).for_each(|number| series.add(sample(number)));
        assert_eq!(series.samples().len(), 700);
        assert_eq!(series.samples()[41], sample(42));
    }

    #[test]
    fn no_peak_is_lost_however_many_samples_become_one() {
        let mut series = Series::of(8);
        for number in 1..=1_024 {
            let odd = Sample { handles: 99, p99_millis: 40.0, memory_bytes: 7_000, ..sample(number) };
            series.add(Sample { ticks: 3, ..if number == 333 { odd } else { sample(number) } });
        }
        let each = u64::from(series.each);
        assert!(series.samples().iter().all(|sample| sample.ticks == 3 * each), "{:?}", series.samples());
        let with_peak: Vec<&Sample> = series.samples().iter().filter(|sample| sample.handles == 99).collect();
        assert_eq!(with_peak.len(), 1, "{:?}", series.samples());
        assert_eq!((with_peak[0].p99_millis, with_peak[0].memory_bytes), (40.0, 7_000));
        // What is counted from the beginning is as of the last of them.
        assert!(series.samples().iter().all(|sample| sample.joined as f64 == sample.seconds));
    }

    #[test]
    fn rows_stand_below_their_names_and_lines_have_all_fields() {
        let sample = Sample { seconds: 7_200.0, memory_bytes: 123_456_789, p99_millis: 1.5, joined: 50_000, ..Sample::default() };
        assert_eq!(heading().len(), sample.row().len());
        assert!(sample.row().contains(" 120.0 ") && sample.row().contains(" 123.5 "), "{}", sample.row());
        assert_eq!(sample.line().split(',').count(), FIELDS.split(',').count());
        assert!(!FIELDS.contains(char::is_whitespace) && sample.line().starts_with("7200.000,123456789,"), "{}", sample.line());
    }
}
