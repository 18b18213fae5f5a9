//! What was measured, as a picture.

use super::step::Step;
use super::sweep::{Bounds, Sweep};
use crate::cli::svg::Svg;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 230.0;
const PANEL: f64 = 230.0;
const GAP: f64 = 62.0;
const LINE: f64 = 16.0;

/// One colour for each sweep, told apart by most eyes.
const COLOURS: [&str; 2] = ["#0b6fa4", "#c8502d"];

/// A quantity that is drawn: its name, how its line is dashed, its value.
type Quantity = (&'static str, &'static str, fn(&Step) -> Option<f64>);

/// A coordinate system. Sizes are drawn by doublings.
struct Panel {
    top: f64,
    x: [f64; 2],
    y: [f64; 2],
    logarithmic: bool,
}

impl Panel {
    fn x(&self, members: f64) -> f64 {
        let [low, high] = self.x.map(f64::log2);
        LEFT + (members.log2() - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let value = value.clamp(self.y[0], self.y[1]);
        let place = |value: f64| if self.logarithmic { value.log10() } else { value };
        self.top + PANEL * (1.0 - (place(value) - place(self.y[0])) / (place(self.y[1]) - place(self.y[0])))
    }

    fn axes(&self, svg: &mut Svg, title: &str, ticks: &[f64]) {
        svg.text([LEFT, self.top - 12.0], "start", "bold", title);
        for tick in ticks {
            let y = self.y(*tick);
            svg.line([LEFT, y], [WIDTH - RIGHT, y], "#ddd", "");
            svg.text([LEFT - 8.0, y + 4.0], "end", "normal", &format!("{tick}"));
        }
        let bottom = self.top + PANEL;
        for doubling in 0..12 {
            let members = f64::from(1 << doubling);
            if (self.x[0]..=self.x[1]).contains(&members) {
                svg.line([self.x(members), bottom], [self.x(members), bottom + 5.0], "#888", "");
                svg.text([self.x(members), bottom + 18.0], "middle", "normal", &format!("{members}"));
            }
        }
        svg.line([LEFT, bottom], [WIDTH - RIGHT, bottom], "#888", "");
        svg.text([WIDTH - RIGHT, bottom + 34.0], "end", "normal", "members in all; a ring was not held");
    }

    /// The lines of all sweeps, and the names of the lines. A step that was not held is a ring.
    fn draw(&self, svg: &mut Svg, bounds: &Bounds, sweeps: &[Sweep], quantities: &[Quantity]) {
        let mut legend = self.top + 10.0;
        for (sweep, colour) in sweeps.iter().zip(COLOURS) {
            for (name, dash, value) in quantities {
                let points = sweep.steps.iter().filter_map(|step| {
                    let place = [self.x(f64::from(step.plan.total())), self.y(value(step)?)];
                    Some((place, if bounds.complaint(step).is_none() { colour } else { "white" }))
                });
                let points: Vec<([f64; 2], &str)> = points.collect();
                for pair in points.windows(2) {
                    if let [(from, _), (to, _)] = pair {
                        svg.line(*from, *to, colour, dash);
                    }
                }
                points.iter().for_each(|(place, fill)| svg.dot(*place, colour, fill));
                svg.line([WIDTH - RIGHT + 10.0, legend], [WIDTH - RIGHT + 36.0, legend], colour, dash);
                svg.text([WIDTH - RIGHT + 42.0, legend + 4.0], "start", "normal", &format!("{name}, {}", sweep.title));
                legend += LINE;
            }
        }
    }
}

/// How late a share of the ticks began at most; nothing of a step that was given up before.
fn late_millis(step: &Step, share: f64) -> Option<f64> {
    let late = &step.pace.late;
    (late.count() > 0).then(|| late.quantile(share).as_secs_f64() * 1e3)
}

/// Draws the sweeps: how late ticks began, and what the two processes took of the processor, over the members in all.
pub(super) fn plot(game: &str, bounds: &Bounds, sweeps: &[Sweep], lines: &[String]) -> String {
    let steps = || sweeps.iter().flat_map(|sweep| &sweep.steps);
    let sizes = || steps().map(|step| f64::from(step.plan.total()));
    let x = [sizes().fold(f64::MAX, f64::min).min(8.0), sizes().fold(16.0, f64::max)];
    let cores = steps().filter_map(|step| Some(step.host_cpu?.max(step.clients_cpu?))).fold(1.0, f64::max).ceil();
    let (late_top, cpu_top) = (54.0, 54.0 + PANEL + GAP);
    let text_top = cpu_top + PANEL + GAP;
    let height = text_top + LINE * lines.len() as f64;
    let mut svg = Svg::new(WIDTH, height);
    svg.text([LEFT, 20.0], "start", "bold", &format!("{game}: how much one machine holds at 20 Hz"));

    let late = Panel { top: late_top, x, y: [0.01, 1_000.0], logarithmic: true };
    late.axes(&mut svg, "how late ticks begin, in milliseconds", &[0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0]);
    let limit = late.y(bounds.late.as_secs_f64() * 1e3);
    svg.line([LEFT, limit], [WIDTH - RIGHT, limit], "#888", "2 3");
    svg.text([LEFT + 4.0, limit - 4.0], "start", "normal", &format!("{} ms", bounds.late.as_millis()));
    let quantiles: [Quantity; 2] = [("p99", "", |step| late_millis(step, 0.99)), ("p50", "4 3", |step| late_millis(step, 0.5))];
    late.draw(&mut svg, bounds, sweeps, &quantiles);

    let cpu = Panel { top: cpu_top, x, y: [0.0, cores], logarithmic: false };
    let ticks: Vec<f64> = (0..=4).map(|quarter| cores * f64::from(quarter) / 4.0).collect();
    cpu.axes(&mut svg, "processor, in cores", &ticks);
    let shares: [Quantity; 2] = [("host", "", |step| step.host_cpu), ("clients", "4 3", |step| step.clients_cpu)];
    cpu.draw(&mut svg, bounds, sweeps, &shares);

    for (number, line) in lines.iter().enumerate() {
        svg.text([20.0, text_top + LINE * number as f64], "start", "normal", line);
    }
    svg.finish()
}
