//! One SVG for each operation: a bar for each engine and size, on a logarithmic axis.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::Figure;
use crate::results::{amount, thousands};
use crate::runner::ENGINES;

const SIZE: (u32, u32) = (900, 420);
const COLORS: [RGBColor; 4] =
    [RGBColor(31, 90, 160), RGBColor(232, 140, 40), RGBColor(80, 150, 80), RGBColor(150, 90, 160)];

/// Share of the room of an engine that its bars take.
const FILLED: f64 = 0.8;

/// Draws every operation of `figures` into the folder `out`.
pub(crate) fn draw(figures: &[Figure], out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    // Counts of allocations are for the table alone: most are too small to draw.
    let drawn = figures.iter().filter(|figure| !figure.op.starts_with("allocs/"));
    let ops: BTreeSet<&str> = drawn.map(|figure| figure.op.as_str()).collect();
    for op in ops {
        let figures: Vec<_> =
            figures.iter().filter(|figure| figure.op == op && figure.amount() > 0.0).collect();
        if figures.is_empty() {
            continue;
        }
        let file = out.join(format!("{}.svg", op.replace('/', "_")));
        draw_op(op, &figures, &file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        eprintln!("{}", file.display());
    }
    Ok(())
}

fn draw_op(op: &str, figures: &[&Figure], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let present = |engine: &&str| figures.iter().any(|figure| figure.engine == **engine);
    let engines: Vec<_> = ENGINES.iter().copied().filter(|engine| present(engine)).collect();
    let sizes: BTreeSet<usize> = figures.iter().map(|figure| figure.n).collect();
    let amounts = figures.iter().map(|figure| figure.amount());
    let (low, high) = amounts
        .fold((f64::MAX, f64::MIN), |(low, high), amount| (low.min(amount), high.max(amount)));
    let floor = low / 3.0;

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("{op} ({})", figures[0].unit);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..engines.len() as f64, (floor..high * 4.0).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .y_label_formatter(&|value| amount(*value))
        .draw()?;

    let name =
        TextStyle::from(("sans-serif", 14).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
    for (at, engine) in engines.iter().enumerate() {
        let place = (at as f64 + 0.5, floor);
        chart.plotting_area().draw(
            &(EmptyElement::at(place) + Text::new((*engine).to_owned(), (0, 8), name.clone())),
        )?;
    }
    let value =
        TextStyle::from(("sans-serif", 11).into_font()).pos(Pos::new(HPos::Center, VPos::Bottom));
    let width = FILLED / sizes.len() as f64;
    for (nth, n) in sizes.iter().enumerate() {
        let color = COLORS[nth % COLORS.len()];
        let bars = figures.iter().filter(|figure| figure.n == *n).map(|figure| {
            let at = engines.iter().position(|engine| *engine == figure.engine).unwrap_or(0);
            let left = at as f64 + (1.0 - FILLED) / 2.0 + nth as f64 * width;
            (left, figure.amount())
        });
        let bars: Vec<(f64, f64)> = bars.collect();
        let rectangle = |&(left, amount): &(f64, f64)| {
            Rectangle::new([(left, floor), (left + width, amount)], color.filled())
        };
        chart
            .draw_series(bars.iter().map(rectangle))?
            .label(format!("{} rows", thousands(*n as f64)))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        chart.draw_series(bars.iter().map(|&(left, height)| {
            let place = (left + width / 2.0, height);
            EmptyElement::at(place) + Text::new(amount(height), (0, -3), value.clone())
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}
