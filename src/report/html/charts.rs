//! Charts as inline SVG.
//!
//! Invariants: ink is the text's colour, so that a chart can be read on a light and on a dark page
//! and on paper; every chart has a title and a sentence for who does not see it; whatever is drawn
//! stands in a table beside it.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::base::error::{Error, Result};

/// Stands for the colour of the page's text.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
/// Told apart by most eyes, on light and on dark.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x2f, 0x7e, 0xd8),
    RGBColor(0xd9, 0x7b, 0x06),
    RGBColor(0x1f, 0x9d, 0x72),
    RGBColor(0xc2, 0x4d, 0x9a),
    RGBColor(0x8a, 0x6f, 0xdf),
    RGBColor(0x9a, 0x86, 0x1c),
    RGBColor(0x35, 0xa3, 0xb5),
    RGBColor(0xc9, 0x4f, 0x43),
];
const WIDTH: u32 = 720;
const BAR_HEIGHT: u32 = 26;
const LABELS_WIDTH: u32 = 190;

/// The colour of the series `at`, as a page writes it.
pub fn colour(at: usize) -> String {
    let RGBColor(red, green, blue) = pick(at);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn pick(at: usize) -> RGBColor {
    COLOURS.get(at % COLOURS.len()).copied().unwrap_or(INK)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(
    title: &str,
    told: &str,
    height: u32,
    paint: impl FnOnce(&Area<'_>) -> std::result::Result<(), Box<dyn std::error::Error>>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paint(&area)
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|err| Error::failed(format!("drawing the chart '{title}'"), err))?;
    }
    let start = format!("<svg width=\"{WIDTH}\" height=\"{height}\"");
    let label = format!("{title}: {told}");
    let open = format!(
        "<svg role=\"img\" aria-label=\"{}\" class=\"chart\" width=\"{WIDTH}\" height=\"{height}\"",
        escape(&label)
    );
    Ok(svg
        .replacen(&start, &open, 1)
        .replace(INK_TEXT, "currentColor"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

/// Bars from left to right, each with its label, its value in words, and the series of its colour.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Label of the bar.
    pub label: String,
    /// Value that its length shows.
    pub value: f64,
    /// The value in words.
    pub words: String,
    /// Which series it belongs to.
    pub series: usize,
}

impl Bar {
    /// A bar as long as a count.
    #[expect(clippy::cast_precision_loss, reason = "the length of a bar")]
    pub fn of_count(label: impl Into<String>, count: u64, series: usize) -> Self {
        Self {
            label: label.into(),
            value: count as f64,
            words: count.to_string(),
            series,
        }
    }
}

/// A chart of bars.
pub fn bars(title: &str, bars: &[Bar]) -> Result<String> {
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    // Room for the words behind the longest bar.
    let most = if most > 0.0 { most * 1.25 } else { 1.0 };
    let told: Vec<String> = bars
        .iter()
        .map(|bar| format!("{} {}", bar.label, bar.words))
        .collect();
    let count = u32::try_from(bars.len()).unwrap_or(u32::MAX).max(1);
    let height = count.saturating_mul(BAR_HEIGHT).saturating_add(16);
    draw(title, &told.join(", "), height, |area| {
        let rows = f64::from(count);
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .y_label_area_size(LABELS_WIDTH)
            .build_cartesian_2d(0.0..most, rows..0.0)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_axes()
            .draw()?;
        let font = ("sans-serif", 13).into_font().color(&INK);
        for (at, bar) in bars.iter().enumerate() {
            let row = f64::from(u32::try_from(at).unwrap_or(0));
            let corners = [(0.0, row + 0.15), (bar.value, row + 0.85)];
            chart.draw_series([Rectangle::new(corners, pick(bar.series).filled())])?;
            let place = chart.backend_coord(&(bar.value, row + 0.5));
            area.draw(&Text::new(
                bar.words.clone(),
                (place.0 + 6, place.1 - 7),
                font.clone(),
            ))?;
            area.draw(&Text::new(
                shorten(&bar.label),
                (6, place.1 - 7),
                font.clone(),
            ))?;
        }
        Ok(())
    })
}

fn shorten(label: &str) -> String {
    const LETTERS: usize = 26;
    if label.chars().count() <= LETTERS {
        return label.to_owned();
    }
    let start: String = label.chars().take(LETTERS - 1).collect();
    format!("{start}…")
}

/// Points in a plane, each in the colour of its series; those without one in the text's colour.
pub fn scatter(title: &str, told: &str, points: &[(f64, f64, Option<usize>)]) -> Result<String> {
    let bounds = |of: fn(&(f64, f64, Option<usize>)) -> f64| {
        let least = points.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = points.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        let room = ((most - least) * 0.05).max(1e-9);
        (least - room)..(most + room)
    };
    let (across, up) = (bounds(|at| at.0), bounds(|at| at.1));
    draw(title, told, 480, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .build_cartesian_2d(across, up)?;
        chart.plotting_area().draw(&Rectangle::new(
            [
                (chart.x_range().start, chart.y_range().start),
                (chart.x_range().end, chart.y_range().end),
            ],
            INK.mix(0.25),
        ))?;
        chart.draw_series(points.iter().map(|(x, y, series)| {
            let colour = series.map_or(INK, pick);
            Circle::new((*x, *y), 3, colour.mix(0.75).filled())
        }))?;
        Ok(())
    })
}

/// For each label the least, the quartiles and the greatest of some values, as a box with whiskers.
pub fn boxes(title: &str, rows: &[(String, [f64; 5])]) -> Result<String> {
    let least = rows
        .iter()
        .map(|row| row.1[0])
        .fold(f64::INFINITY, f64::min);
    let most = rows
        .iter()
        .map(|row| row.1[4])
        .fold(f64::NEG_INFINITY, f64::max);
    let room = ((most - least) * 0.05).max(least.abs() * 1e-3).max(1e-9);
    let told: Vec<String> = rows
        .iter()
        .map(|(label, [from, _, half, _, to])| {
            format!("{label} {from:.3} to {to:.3}, half {half:.3}")
        })
        .collect();
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX).max(1);
    let height = count.saturating_mul(BAR_HEIGHT).saturating_add(16);
    draw(title, &told.join("; "), height, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .y_label_area_size(LABELS_WIDTH)
            .build_cartesian_2d((least - room)..(most + room), f64::from(count)..0.0)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_axes()
            .draw()?;
        let font = ("sans-serif", 13).into_font().color(&INK);
        for (at, (label, [from, low, half, high, to])) in rows.iter().enumerate() {
            let row = f64::from(u32::try_from(at).unwrap_or(0));
            let middle = row + 0.5;
            let line = |from: f64, to: f64| PathElement::new([(from, middle), (to, middle)], INK);
            chart.draw_series([line(*from, *low), line(*high, *to)])?;
            let corners = [(*low, row + 0.2), (*high, row + 0.8)];
            chart.draw_series([Rectangle::new(corners, pick(at).filled())])?;
            let mark = [(*half, row + 0.2), (*half, row + 0.8)];
            chart.draw_series([PathElement::new(mark, INK.stroke_width(2))])?;
            let place = chart.backend_coord(&(*from, middle));
            area.draw(&Text::new(shorten(label), (6, place.1 - 7), font.clone()))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_tells_its_values_and_takes_the_pages_ink() {
        let bar = |label: &str, value: f64, series| Bar {
            label: label.into(),
            value,
            words: format!("{value:.1} ms"),
            series,
        };
        let svg = bars("Latency", &[bar("a \"b\" & <c>", 1.0, 0), bar("d", 2.5, 1)]).unwrap();
        assert!(svg.starts_with("<svg role=\"img\""), "{svg}");
        assert!(
            svg.contains("a &quot;b&quot; &amp; &lt;c> 1.0 ms, d 2.5 ms"),
            "{svg}"
        );
        assert!(
            svg.contains("2.5 ms") && svg.contains("currentColor"),
            "{svg}"
        );
        assert!(!svg.contains(INK_TEXT) && !svg.contains("<script"), "{svg}");
        assert!(
            svg.contains(&colour(1).to_uppercase()) || svg.contains(&colour(1)),
            "{svg}"
        );
        let points = [(0.0, 0.0, Some(0)), (1.0, 2.0, Some(1)), (3.0, 1.0, None)];
        let svg = scatter("Plane", "3 points", &points).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
        let svg = boxes("Norms", &[("a".into(), [0.0, 0.2, 0.5, 0.7, 1.0])]).unwrap();
        assert!(svg.contains("half 0.500"), "{svg}");
        // Nothing to draw is drawn as nothing.
        bars("Empty", &[]).unwrap();
        boxes("Equal", &[("a".into(), [1.0; 5])]).unwrap();
    }
}
