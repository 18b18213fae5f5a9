//! The samples as a picture: a panel for each thing that is watched, all over the same time.

use super::sample::{Sample, megabytes};
use super::verdict::{judged, memory_line};
use crate::cli::svg::Svg;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 54.0;
const PANEL: f64 = 130.0;
const GAP: f64 = 54.0;
const LINE: f64 = 16.0;
/// How many characters of text fit in a line.
const COLUMNS: usize = 130;

const MEASURED: &str = "#0b6fa4";
const FITTED: &str = "#c8502d";
const AXIS: &str = "#888";
const GRID: &str = "#ddd";

/// Up to here the time is told in seconds, then in minutes.
const SECONDS_MAX: f64 = 300.0;

/// A quantity over the time.
struct Quantity {
    title: &'static str,
    of: fn(&Sample) -> f64,
    /// Drawn by powers of ten, from a hundredth to a thousand: of what is small as a rule and large at times both are seen.
    logarithmic: bool,
}

const QUANTITIES: [Quantity; 4] = [
    Quantity { title: "memory, in MB", of: |sample| megabytes(sample.memory_bytes), logarithmic: false },
    Quantity { title: "open handles", of: |sample| sample.handles as f64, logarithmic: false },
    Quantity { title: "how late 99 of 100 ticks began at most, in milliseconds", of: |sample| sample.p99_millis, logarithmic: true },
    Quantity { title: "members", of: |sample| sample.members as f64, logarithmic: false },
];

/// A step of 1, 2 or 5 times a power of ten, of which at most `parts` reach so far; and how many digits it has behind the point.
fn step(reach: f64, parts: f64) -> (f64, usize) {
    let least = (reach / parts).max(1e-3);
    let power = least.log10().floor() as i32;
    let unit = 10_f64.powi(power);
    // What is a hair above one by its last digit is that one.
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| unit * times >= least * 0.999_999).unwrap_or(10.0);
    let digits = if times < 10.0 { -power } else { -power - 1 };
    (unit * times, usize::try_from(digits).unwrap_or_default())
}

/// A coordinate system of one panel.
struct Panel {
    top: f64,
    /// The end of the time, in its unit.
    end: f64,
    y: [f64; 2],
    logarithmic: bool,
}

impl Panel {
    fn x(&self, time: f64) -> f64 {
        LEFT + (time / self.end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let place = |value: f64| if self.logarithmic { value.log10() } else { value };
        let [low, high] = self.y;
        self.top + PANEL * (1.0 - (place(value.clamp(low, high)) - place(low)) / (place(high) - place(low)))
    }

    fn axes(&self, svg: &mut Svg, title: &str, ticks: &[(f64, String)], unit: &str) {
        svg.text([LEFT, self.top - 10.0], "start", "bold", title);
        for (tick, name) in ticks {
            svg.line([LEFT, self.y(*tick)], [WIDTH - RIGHT, self.y(*tick)], GRID, "");
            svg.text([LEFT - 8.0, self.y(*tick) + 4.0], "end", "normal", name);
        }
        let bottom = self.top + PANEL;
        let (step, digits) = step(self.end, 8.0);
        for time in (0_u32..).map(|number| f64::from(number) * step).take_while(|time| *time <= self.end * 1.000_001) {
            svg.line([self.x(time), bottom], [self.x(time), bottom + 5.0], AXIS, "");
            svg.text([self.x(time), bottom + 18.0], "middle", "normal", &format!("{time:.digits$}"));
        }
        svg.line([LEFT, bottom], [WIDTH - RIGHT, bottom], AXIS, "");
        svg.text([WIDTH - RIGHT, bottom + 32.0], "end", "normal", unit);
    }
}

/// Where the values of a panel lie, and which of them are named.
fn scale(quantity: &Quantity, samples: &[Sample]) -> ([f64; 2], Vec<(f64, String)>) {
    if quantity.logarithmic {
        return ([0.01, 1_000.0], [0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0].map(|tick: f64| (tick, tick.to_string())).to_vec());
    }
    let most = samples.iter().map(quantity.of).fold(1.0, f64::max);
    let (step, digits) = step(most, 4.0);
    let count = (most / step * 0.999_999).ceil() as u32;
    let ticks = (0..=count).map(|number| f64::from(number) * step).map(|tick| (tick, format!("{tick:.digits$}")));
    ([0.0, f64::from(count) * step], ticks.collect())
}

/// A sentence in lines that fit. What goes on in the next one is further in.
fn wrapped(sentence: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = word.to_owned(),
            Some(line) if line.chars().count() + word.chars().count() < COLUMNS => *line = format!("{line} {word}"),
            _ => lines.push(format!("    {word}")),
        }
    }
    lines
}

/// Draws the samples: memory, handles, lateness and members over the time, and lines of text below. Where the warm-up ends stands a line; through the
/// memory behind it goes the one that is judged.
pub(super) fn plot(title: &str, samples: &[Sample], warm_up_seconds: f64, lines: &[String]) -> String {
    let seconds = samples.last().map_or(1.0, |sample| sample.seconds);
    let (unit_seconds, unit) = if seconds <= SECONDS_MAX { (1.0, "seconds") } else { (60.0, "minutes") };
    let text_top = TOP + (PANEL + GAP) * QUANTITIES.len() as f64;
    let lines: Vec<String> = lines.iter().flat_map(|line| wrapped(line)).collect();
    let mut svg = Svg::new(WIDTH, text_top + LINE * lines.len() as f64);
    svg.text([LEFT, 20.0], "start", "bold", title);
    let tops = (0_u32..).map(|number| TOP + (PANEL + GAP) * f64::from(number));
    for (number, (quantity, top)) in QUANTITIES.iter().zip(tops).enumerate() {
        let (y, ticks) = scale(quantity, samples);
        let panel = Panel { top, end: seconds / unit_seconds, y, logarithmic: quantity.logarithmic };
        panel.axes(&mut svg, quantity.title, &ticks, unit);
        let warm = panel.x(warm_up_seconds / unit_seconds);
        if warm_up_seconds < seconds {
            svg.line([warm, top], [warm, top + PANEL], AXIS, "2 3");
            if number == 0 {
                svg.text([warm + 4.0, top + PANEL - 6.0], "start", "normal", "judged from here on");
            }
        }
        let place = |sample: &Sample| [panel.x(sample.seconds / unit_seconds), panel.y((quantity.of)(sample))];
        svg.path(samples.iter().map(place), MEASURED);
        if let Some((from, to)) = (number == 0).then(|| fitted(samples, warm_up_seconds)).flatten() {
            let place = |(seconds, bytes): (f64, f64)| [panel.x(seconds / unit_seconds), panel.y(bytes / 1e6)];
            svg.line(place(from), place(to), FITTED, "4 3");
        }
    }
    for (number, line) in lines.iter().enumerate() {
        svg.text([20.0, text_top + LINE * number as f64], "start", "normal", line);
    }
    svg.finish()
}

/// The ends of the line through the memory that is judged, in seconds and bytes.
fn fitted(samples: &[Sample], warm_up_seconds: f64) -> Option<((f64, f64), (f64, f64))> {
    let judged = judged(samples, warm_up_seconds);
    let (from, to) = (judged.first()?.seconds, judged.last()?.seconds);
    let line = memory_line(judged);
    Some(((from, line.at(from)), (to, line.at(to))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: u32) -> Vec<Sample> {
        let sample = |number: u32| Sample {
            seconds: f64::from(number) * 10.0,
            memory_bytes: 140_000_000 + u64::from(number % 5) * 1_000_000,
            handles: 31,
            // The worst of them is beyond the panel, the best below it.
            p99_millis: if number.is_multiple_of(90) { 4_000.0 } else { f64::from(number % 3) },
            members: 870,
            ..Sample::default()
        };
        (1..=count).map(sample).collect()
    }

    #[test]
    fn long_sentences_are_wrapped_and_lose_no_word() {
        let long = "memory: flat, as it has been ever since it was measured; ".repeat(9);
        let lines = wrapped(long.trim());
        assert!(lines.len() > 3 && lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:?}");
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(words.join(" "), long.trim());
        assert_eq!(wrapped("rooms: none failed"), ["rooms: none failed"]);
    }

    #[test]
    fn steps_are_round_and_name_no_more_digits_than_they_have() {
        for (reach, parts, wanted) in [
            (120.0, 8.0, (20.0, 0)),
            (8.0, 8.0, (1.0, 0)),
            (1.0, 4.0, (0.5, 1)),
            (31.0, 4.0, (10.0, 0)),
            (145.0, 4.0, (50.0, 0)),
            (3.9, 4.0, (1.0, 0)),
        ] {
            let (step, digits) = step(reach, parts);
            assert!((step - wanted.0).abs() < 1e-9 && digits == wanted.1, "{reach}: {step}, {digits}");
            assert!(reach / step <= parts + 1e-6);
        }
    }

    #[test]
    fn each_thing_has_a_panel_with_its_unit_and_all_samples() {
        let svg = plot("a soak", &samples(720), 600.0, &["memory: flat".to_owned()]);
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        for words in [
            "a soak",
            "memory, in MB",
            "open handles",
            "at most, in milliseconds",
            "members",
            "minutes",
            "judged from here on",
            "memory: flat",
        ] {
            assert!(svg.contains(&format!("{words}</text>")), "{words}");
        }
        let paths: Vec<&str> = svg.lines().filter(|line| line.starts_with("<polyline")).collect();
        assert_eq!(paths.len(), 4);
        assert!(paths.iter().all(|path| path.matches(',').count() == 720));
        assert_eq!(svg.matches(FITTED).count(), 1);
    }

    #[test]
    fn everything_is_drawn_within_the_picture() {
        for count in [0, 1, 2, 720] {
            let svg = plot("a soak", &samples(count), 600.0, &[]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            let points = svg.lines().filter_map(|line| line.strip_prefix("<polyline points=\"")?.split('"').next());
            for point in points.flat_map(str::split_whitespace) {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..TOP + (PANEL + GAP) * 4.0).contains(&y), "{point}");
            }
        }
    }

    #[test]
    fn a_short_run_is_told_in_seconds_and_words_stay_words() {
        let svg = plot("<game> & co", &samples(6), 6.0, &[]);
        assert!(svg.contains(">seconds</text>") && !svg.contains(">minutes</text>"));
        assert!(svg.contains("&lt;game&gt; &amp; co</text>"));
    }
}
