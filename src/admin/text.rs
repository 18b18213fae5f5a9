//! The text in which Prometheus reads metrics, version 0.0.4.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::host::Durations;

/// Bounds of the histograms of ticks, in seconds as text: a tick has 50 ms.
const BOUNDS: [(Duration, &str); 12] = [
    (Duration::from_micros(100), "0.0001"),
    (Duration::from_micros(250), "0.00025"),
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_micros(2_500), "0.0025"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_secs(1), "1"),
];

/// Metrics as text.
#[derive(Default)]
pub(super) struct Text(String);

/// A label and its value.
pub(super) type Label<'a> = (&'a str, &'a str);

impl Text {
    /// Begins a metric: all its samples follow.
    pub(super) fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of it.
    pub(super) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.0.push_str(name);
        for (nth, (label, text)) in labels.iter().enumerate() {
            self.0.push_str(if nth == 0 { "{" } else { "," });
            let _ = write!(self.0, "{label}=\"");
            for symbol in text.chars() {
                match symbol {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A metric of one sample.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The samples of a histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: &[Label<'_>], durations: &Durations) {
        let counts = durations.at_most(BOUNDS.map(|(bound, _)| bound));
        let bucket = format!("{name}_bucket");
        for ((_, bound), count) in BOUNDS.iter().zip(counts) {
            self.sample(&bucket, &[labels, &[("le", bound)]].concat(), count);
        }
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), durations.count());
        self.sample(&format!("{name}_sum"), labels, durations.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), labels, durations.count());
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rooms_can_not_break_the_text() {
        let mut text = Text::default();
        text.metric("a", "gauge", "What it is.");
        text.sample("a", &[("room", "x\"} 1\nb{c=\"\\")], 2);
        assert_eq!(text.finish(), "# HELP a What it is.\n# TYPE a gauge\na{room=\"x\\\"} 1\\nb{c=\\\"\\\\\"} 2\n");
    }

    #[test]
    fn a_histogram_rises_and_ends_with_all() {
        let (mut text, mut durations) = (Text::default(), Durations::default());
        [300, 300, 40_000, 9_000_000].into_iter().for_each(|micros| durations.record(Duration::from_micros(micros)));
        text.histogram("t", &[("room", "a")], &durations);
        let text = text.finish();
        for line in [
            "t_bucket{room=\"a\",le=\"0.00025\"} 0",
            "le=\"0.0005\"} 2",
            "le=\"0.05\"} 3",
            "le=\"1\"} 3",
            "le=\"+Inf\"} 4",
            "t_count{room=\"a\"} 4",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
