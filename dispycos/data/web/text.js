/* Numbers, times and sizes in words. */

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
export const N = n => (n == null ? '–' : whole.format(Math.round(n)));
const pad = n => String(n).padStart(2, '0');

/* 14:31:07, of seconds since the epoch, in the reader's time zone. */
export function clock(t, ms) {
  if (t == null) return '–';
  const d = new Date(t * 1000);
  return (
    `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}` +
    (ms ? '.' + String(d.getMilliseconds()).padStart(3, '0') : '')
  );
}

/* With the day, when that is not today. */
export function when(t, now) {
  if (t == null) return '–';
  const d = new Date(t * 1000),
    day = new Date(now * 1000);
  const same = d.toDateString() === day.toDateString();
  return same ? clock(t) : `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(t).slice(0, 5)}`;
}

export function dur(s) {
  if (s == null) return '–';
  s = Math.max(0, s);
  if (s > 0 && s < 0.0005) return '< 1 ms';
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 89.5) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.floor(s / 60)} min ${pad(Math.floor(s % 60))} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${pad(Math.floor(s / 60) % 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

/* How long ago, calm: seconds, minutes, hours, without a second unit. */
export function ago(s) {
  if (s == null) return '–';
  if (s < 90) return `${Math.max(0, Math.round(s))} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

export function size(bytes) {
  if (bytes == null) return '–';
  const units = ['B', 'KB', 'MB', 'GB', 'TB', 'PB'];
  let k = 0;
  while (bytes >= 999.5 && k < units.length - 1) {
    bytes /= 1024;
    k += 1;
  }
  return `${bytes >= 9.95 || k === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[k]}`;
}

export const rate = v => (v == null ? '–' : v === 0 ? '0' : v < 9.95 ? v.toFixed(1) : N(v));
export const percent = v => (v == null ? '–' : `${Math.round(v)} %`);

/* A part of a whole: 98.96 %, 0.018 %; never "0 %" for something, never "100 %" for less than all. */
export function share(part, whole) {
  if (!whole) return '–';
  const p = (part / whole) * 100;
  if (p === 0 || p === 100) return `${p} %`;
  const digits = p < 0.1 || p > 99.9 ? 3 : p < 10 || p > 90 ? 2 : 1;
  const least = 10 ** -digits;
  return `${Math.min(100 - least, Math.max(least, p)).toFixed(digits)} %`;
}

export const plural = (n, one, many = one + 's') => `${N(n)} ${n === 1 ? one : many}`;
export const capital = s => (s ? s[0].toUpperCase() + s.slice(1) : s);

/* n9 before n10. */
export function natural(s) {
  let key = naturals.get(s);
  if (key === undefined) {
    if (naturals.size > 50000) naturals.clear();
    naturals.set(s, (key = String(s ?? '').replace(/\d+/g, d => d.padStart(8, '0'))));
  }
  return key;
}
const naturals = new Map(); // sorting asks for the same names every second

/* An address by its octets, so that .9 comes before .10; other names as they are. */
export function octets(address) {
  const parts = String(address ?? '').split('.');
  return parts.length === 4 && parts.every(p => /^\d+$/.test(p))
    ? parts.map(p => p.padStart(3, '0')).join('.')
    : String(address ?? '');
}
