package growth

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// Save draws the chart into a directory. Both axes are logarithmic.
func (c *Chart) Save(dir string) error {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title+", "+c.Y, c.X, ""
	p.Title.Padding = vg.Points(8)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = c.measured(), plainTicks{}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	low, high := c.bounds()
	p.Y.Min, p.Y.Max = low, high
	p.Add(plotter.NewGrid())
	for i, line := range c.Lines {
		points := make(plotter.XYs, len(line.Points))
		for j, point := range line.Points {
			points[j].X, points[j].Y = float64(point.N), max(point.Value, low)
		}
		l, s, err := plotter.NewLinePoints(points)
		if err != nil {
			return fmt.Errorf("%s: %w", c.File, err)
		}
		l.Width = vg.Points(1.5)
		l.Color, s.Color = plotutil.Color(i), plotutil.Color(i)
		l.Dashes, s.Shape = plotutil.Dashes(i), plotutil.Shape(i)
		p.Add(l, s)
		p.Legend.Add(line.Name, l, s)
	}
	p.X.Max *= 1.2 // space for the last label
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, filepath.Join(dir, c.File))
}

// legendEntry is the approximate share of the height that a legend entry takes.
const legendEntry = 0.07

// bounds returns bounds around all values, with space above them for the legend.
func (c *Chart) bounds() (low, high float64) {
	low, high = 1e9, 1e-9
	for _, line := range c.Lines {
		for _, point := range line.Points {
			if point.Value > 0 {
				low, high = min(low, point.Value), max(high, point.Value)
			}
		}
	}
	bottom := math.Floor(math.Log10(low))
	span := math.Log10(2*high) - bottom
	return math.Pow(10, bottom), math.Pow(10, bottom+span/(1-legendEntry*float64(len(c.Lines))))
}

// measured returns a tick for each measured size.
func (c *Chart) measured() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, point := range c.Lines[0].Points {
		ticks = append(ticks, plot.Tick{Value: float64(point.N), Label: number(float64(point.N))})
	}
	return ticks
}

// plainTicks labels powers of ten with plain numbers.
type plainTicks struct{}

// Ticks implements plot.Ticker.
func (plainTicks) Ticks(low, high float64) []plot.Tick {
	ticks := plot.LogTicks{Prec: -1}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = number(ticks[i].Value)
		}
	}
	return ticks
}

// number formats a number with a comma before each group of three digits.
func number(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%g", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// figures formats a value with three significant figures, or as a whole number.
func figures(v float64) string {
	if v >= 100 {
		return number(v)
	}
	return fmt.Sprintf("%.3g", v)
}

// Markdown returns a link to the chart and a table of its numbers.
func (c *Chart) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n![%s](%s)\n\n| %s |", c.Title, c.Title, c.File, c.X)
	for _, point := range c.Lines[0].Points {
		fmt.Fprintf(&b, " %s |", number(float64(point.N)))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(c.Lines[0].Points)) + "\n")
	for _, line := range c.Lines {
		fmt.Fprintf(&b, "| %s, %s |", line.Name, c.Y)
		for _, point := range line.Points {
			b.WriteString(" " + figures(point.Value) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return b.String()
}
