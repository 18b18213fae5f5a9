//! Lines and words of a picture, for whatever is drawn of a measurement.

use std::fmt::Write;

/// A picture that is being written. Its ground is white, whatever that of the page is.
pub(super) struct Svg(String);

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        ))
    }

    pub(super) fn line(&mut self, from: [f64; 2], to: [f64; 2], colour: &str, dash: &str) {
        let ([x1, y1], [x2, y2]) = (from, to);
        let _ = writeln!(
            self.0,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}"/>"#
        );
    }

    /// One line through many points.
    pub(super) fn path(&mut self, points: impl Iterator<Item = [f64; 2]>, colour: &str) {
        self.0.push_str("<polyline points=\"");
        for [x, y] in points {
            let _ = write!(self.0, "{x:.1},{y:.1} ");
        }
        let _ = writeln!(self.0, r#"" stroke="{colour}" stroke-width="1.5" fill="none"/>"#);
    }

    pub(super) fn dot(&mut self, [x, y]: [f64; 2], colour: &str, fill: &str) {
        let _ = writeln!(self.0, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" stroke="{colour}" stroke-width="1.5" fill="{fill}"/>"#);
    }

    pub(super) fn text(&mut self, [x, y]: [f64; 2], anchor: &str, weight: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(self.0, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-weight="{weight}">{text}</text>"#);
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}
