"use strict";
/* The statistics of leaderboard/stats.py, comparison.py and ranking.py, for the rows that the filters leave. They give
   the numbers of the Python code; a test holds one against the other. */
const LEVEL = 1 - 0.95;
const LEAST = 1.9599; /* No test at 5 % needs fewer standard errors: the normal distribution needs 1.95996. */
const LARGE = 400; /* More rows than this: Holm's thresholds use the smaller of two rows' degrees of freedom. */

/* Gamma(a + 1/2) / Gamma(a): the difference of two Stirling series, from 15 downwards by recursion. */
const gammaRatio = (a) => {
  let factor = 1;
  for (; a < 15; a += 1) factor *= a / (a + 0.5);
  const tail = (x) => (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / (x * x)) / (x * x)) / (x * x)) / (x * x)) / x;
  return factor * Math.exp(a * Math.log1p(0.5 / a) + 0.5 * Math.log(a) - 0.5 + tail(a + 0.5) - tail(a));
};

/* The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method. */
const betaFraction = (a, b, x) => {
  const tiny = 1e-300;
  let c = 1;
  let d = 0;
  let product = 1;
  for (let j = 1; j < 10000; j += 1) {
    const m = j >> 1;
    const term = j % 2 ? -((a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)) : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + term * d || tiny);
    c = 1 + term / c || tiny;
    product *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return 1 / product;
};

/* P(|T| > t) of Student's distribution with any positive number of degrees of freedom. */
const twoSided = (df, t) => {
  const square = (t * t) / df;
  if (!(square > 0)) return Number.isNaN(square) ? NaN : 1;
  if (square === Infinity) return 0;
  const a = df / 2;
  const [x, rest] = [1 / (1 + square), square / (1 + square)];
  /* x^a (1 - x)^(1/2) / B(a, 1/2) */
  const front = (Math.exp(-a * Math.log1p(square)) * Math.sqrt(rest) * gammaRatio(a)) / Math.sqrt(Math.PI);
  if (x < (a + 1) / (a + 2.5)) return (front / a) * betaFraction(a, 0.5, x);
  return 1 - 2 * front * betaFraction(0.5, a, rest);
};

/* The t that |T| exceeds with probability `p`: Newton's steps between bounds. */
const quantiles = new Map();
const quantile = (df, p = LEVEL) => {
  if (!quantiles.has(p)) quantiles.set(p, new Map());
  const known = quantiles.get(p);
  if (!known.has(df)) known.set(df, findQuantile(df, p));
  return known.get(df);
};
const findQuantile = (df, p) => {
  let low = 0;
  let high = 2;
  while (twoSided(df, high) > p) high *= 2;
  let t = (low + high) / 2;
  const scale = (2 * gammaRatio(df / 2)) / Math.sqrt(Math.PI * df);
  for (let step = 0; step < 200; step += 1) {
    const over = twoSided(df, t) - p;
    if (over > 0) low = t;
    else high = t;
    let next = t + over / (scale * Math.exp((-(df + 1) / 2) * Math.log1p((t * t) / df)));
    if (!(next > low && next < high)) next = (low + high) / 2;
    if (Math.abs(next - t) <= 4e-15 * t) break;
    t = next;
  }
  return t;
};

/* An estimate is {mean, error, df}; `error` is null where it is not known. What shares its draws (pretraining runs,
   validation images) with others has their set in `draws`, and its number there in `slot`. A sum has `parts`. */
const half = (estimate) => (estimate.error === null ? null : estimate.error * quantile(estimate.df));
const interval = (estimate) => {
  const reach = half(estimate);
  return reach === null ? null : [estimate.mean - reach, estimate.mean + reach];
};
const sum = (values) => values.reduce((total, value) => total + value, 0);

/* The parts of an estimate's error: variances with their degrees of freedom, and by set of draws weighted slots. */
const partsOf = ({ error, df, draws, slot, parts }) => parts ?? (draws ? { alone: [], drawn: new Map([[draws, [[1, slot]]]]) } : { alone: [[error ** 2, df]], drawn: new Map() });
const product = ({ products }, a, b) => (a > b ? products[(a * (a + 1)) / 2 + b] : products[(b * (b + 1)) / 2 + a]);
/* The variance of the sum of the weighted values of a set, and its degrees of freedom: the fewest of the values. */
const varianceOf = (draws, slots) => {
  const df = Math.min(...slots.map(([, slot]) => draws.df[slot]));
  const squares = sum(slots.map(([v, a]) => sum(slots.map(([w, b]) => v * w * product(draws, a, b)))));
  return [(Math.max(squares, 0) * (df + 1)) / df, df];
};
/* The slots in groups that have draws in common, also by way of others of them. */
const connected = (draws, slots) => {
  const groups = [];
  for (const slot of slots) {
    const near = (other) => draws.members[slot[1]].some((part) => draws.members[other[1]].includes(part));
    const joined = groups.filter((group) => group.some(near));
    for (const group of joined) groups.splice(groups.indexOf(group), 1);
    groups.push([...joined.flat(), slot]);
  }
  return groups;
};
const scaled = (slots, weight) => slots.map(([own, slot]) => [weight * own, slot]);

/* The sum of estimates, each times its weight, with Satterthwaite's degrees of freedom. Estimates depend on each other
   through common draws. */
const weightedSum = (terms) => {
  const mean = sum(terms.map(([weight, term]) => weight * term.mean));
  if (!terms.length || terms.some(([, term]) => term.error === null)) return { mean, error: null, df: 0 };
  const [alone, drawn] = [[], new Map()];
  for (const [weight, term] of terms) {
    const parts = partsOf(term);
    for (const [variance, df] of parts.alone) alone.push([weight ** 2 * variance, df]);
    for (const [draws, slots] of parts.drawn) drawn.set(draws, [...(drawn.get(draws) ?? []), ...scaled(slots, weight)]);
  }
  const variances = [...alone, ...[...drawn].flatMap(([draws, slots]) => connected(draws, slots).map((group) => varianceOf(draws, group)))];
  const variance = sum(variances.map(([value]) => value));
  const spread = sum(variances.map(([value, df]) => value ** 2 / df));
  return { mean, error: Math.sqrt(variance), df: spread ? variance ** 2 / spread : sum(variances.map(([, df]) => df)), parts: { alone, drawn } };
};

/* Ranks, 1 for the highest; equal values share the mean of their ranks. */
const midRanks = (values) => {
  const ordered = Float64Array.from(values).sort();
  const bound = (value, after) => {
    let [low, high] = [0, ordered.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (after ? ordered[middle] <= value : ordered[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return values.map((value) => values.length - (bound(value, true) + bound(value, false) - 1) / 2);
};

/* Rows and the estimates that they are compared by, all with an error. Where two rows have exactly the same draws, they
   are compared draw by draw; all else is taken as independent. */
class Contest {
  constructor(figures) {
    this.mean = figures.map((figure) => figure.mean);
    const parts = figures.map(partsOf);
    this.leastDf = parts.map(({ alone, drawn }) => Math.min(...alone.map(([, df]) => df), ...[...drawn].flatMap(([draws, slots]) => slots.map(([, slot]) => draws.df[slot]))));
    this.variances = new Float64Array(figures.length);
    this.spreads = new Float64Array(figures.length);
    const own = (row, variance, df) => {
      this.variances[row] += variance;
      this.spreads[row] += variance ** 2 / df;
    };
    const drawnOf = new Map(); /* for each set of draws, the rows by what they have drawn of it */
    parts.forEach(({ alone, drawn }, row) => {
      for (const [variance, df] of alone) own(row, variance, df);
      for (const [draws, all] of drawn) {
        if (!drawnOf.has(draws)) drawnOf.set(draws, new Map());
        for (const slots of connected(draws, all)) {
          const drawn = [...new Set(slots.flatMap(([, slot]) => draws.members[slot]))].sort((a, b) => a - b).join();
          const rows = drawnOf.get(draws);
          rows.set(drawn, (rows.get(drawn) ?? new Map()).set(row, { slots, own: varianceOf(draws, slots) }));
        }
      }
    });
    const sets = [...drawnOf].flatMap(([draws, of]) => [...of.values()].map((rows) => [draws, rows]));
    this.common = sets.filter(([, rows]) => rows.size > 1);
    for (const [, rows] of sets) if (rows.size === 1) for (const [row, found] of rows) own(row, ...found.own);
  }

  /* The difference of row `i` minus row `j`, in the fields `gap`, `variance` and `spread`: pairs come by millions. */
  measure(i, j) {
    this.gap = this.mean[i] - this.mean[j];
    this.variance = this.variances[i] + this.variances[j];
    this.spread = this.spreads[i] + this.spreads[j];
    for (const [draws, of] of this.common) {
      const [a, b] = [of.get(i), of.get(j)];
      for (const [variance, df] of a && b ? [varianceOf(draws, [...a.slots, ...scaled(b.slots, -1)])] : [a, b].filter(Boolean).map((one) => one.own)) {
        this.variance += variance;
        this.spread += variance ** 2 / df;
      }
    }
  }

  /* The difference as an estimate. */
  difference(i, j) {
    this.measure(i, j);
    const { gap, variance, spread } = this;
    return { mean: gap, error: Math.sqrt(variance), df: spread ? variance ** 2 / spread : Math.min(this.leastDf[i], this.leastDf[j]) };
  }

  /* Welch's two-sided p-value. Without any variance, equal values have p = 1 and others p = 0. */
  pValue(i, j) {
    const { mean, error, df } = this.difference(i, j);
    return error === 0 ? Number(mean === 0) : twoSided(df, Math.abs(mean) / error);
  }

  different(i, j) {
    this.measure(i, j);
    const { gap, variance, spread } = this;
    if (gap === 0 || variance === 0) return gap !== 0;
    const errors = Math.abs(gap) / Math.sqrt(variance);
    return errors >= LEAST && twoSided(variance ** 2 / spread, errors) < LEVEL;
  }

  /* The row that is better than every other one; null if there is none, or only one row. */
  leader() {
    const best = this.mean.indexOf(Math.max(...this.mean));
    return this.mean.length > 1 && this.mean.every((_, row) => row === best || this.different(best, row)) ? best : null;
  }

  /* Each row's tier, from 1: the best row without a tier and the rows not worse than it form the next tier. */
  tiers() {
    const tier = new Array(this.mean.length).fill(0);
    let left = this.mean.map((_, row) => row).sort((i, j) => this.mean[j] - this.mean[i] || i - j);
    for (let number = 1; left.length; number += 1) {
      const best = left[0];
      const worse = left.filter((row) => row !== best && this.different(best, row));
      const rest = new Set(worse);
      for (const row of left) if (!rest.has(row)) tier[row] = number;
      left = worse;
    }
    return tier;
  }

  /* The best and the worst rank that the row's tests leave possible, with Holm's correction over them. */
  rankInterval(row) {
    const k = this.mean.length;
    const [errors, p] = [new Float64Array(k), new Float64Array(k)];
    for (let other = 0; other < k; other += 1) {
      this.measure(row, other);
      const { gap, variance, spread } = this;
      const none = other === row || gap === 0;
      errors[other] = none ? 0 : Math.abs(gap) / Math.sqrt(variance);
      if (k <= LARGE) p[other] = none || errors[other] < LEAST ? Infinity : variance === 0 ? 0 : twoSided(variance ** 2 / spread, errors[other]);
    }
    const large = (level) => {
      const needed = new Map();
      for (const df of new Set(this.leastDf)) needed.set(df, quantile(Math.min(df, this.leastDf[row]), level));
      return (other) => errors[other] > 0 && errors[other] >= needed.get(this.leastDf[other]);
    };
    const small = (level) => (other) => p[other] <= level;
    for (let left = k - 1; ; ) {
      const rejects = (k <= LARGE ? small : large)(LEVEL / Math.max(left, 1));
      let [best, worst] = [1, k];
      for (let other = 0; other < k; other += 1) {
        if (!rejects(other)) continue;
        if (this.mean[row] > this.mean[other]) worst -= 1;
        else best += 1;
      }
      const fewer = worst - best; /* the tests that are not rejected */
      if (fewer === left) return [best, worst];
      left = fewer;
    }
  }
}
