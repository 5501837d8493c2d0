/**
 * Progress: the phases of a run on standard error, as a bar on a terminal and as plain lines elsewhere.
 */
import { Effect, Layer } from "effect"
import { Progress, type Progress as ProgressShape } from "../recipes/Progress.ts"

/** Where to draw: standard error, or something like it. */
export interface Output {
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
  readonly write: (text: string) => unknown
}

/** What is known of the phase that is under way. */
export interface State {
  readonly phase: string
  /** Infinite where nobody knows it. */
  readonly total: number
  readonly done: number
  /** Steps that an earlier start had done: they say nothing of the speed. */
  readonly reused: number
  readonly note: string
  readonly seconds: number
}

const width = 24

/** A length of time in words: `8 s`, `3 min`, `1 h 20 min`. */
export const duration = (seconds: number): string => {
  if (seconds < 90) return `${Math.ceil(seconds)} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

const rate = (perSecond: number): string =>
  perSecond >= 1 ? `${perSecond.toFixed(perSecond < 10 ? 1 : 0)}/s` : `${(perSecond * 60).toFixed(1)}/min`

/** One line on the state of a phase; of one that is over, nothing is left, whatever was not done. */
export const line = (
  { phase, total, done, reused, note, seconds }: State,
  { bar = false, over = false }: { readonly bar?: boolean; readonly over?: boolean } = {}
): string => {
  const known = Number.isFinite(total)
  const share = total === 0 ? 1 : Math.min(1, done / total)
  const fresh = done - reused
  const speed = seconds > 0.5 && fresh > 0 ? fresh / seconds : undefined
  const filled = Math.floor(share * width)
  return [
    phase.padEnd(13),
    ...(bar && known ? [`${"█".repeat(filled)}${"░".repeat(width - filled)}`] : []),
    known ? `${done}/${total}` : `${done}`,
    ...(speed === undefined ? [] : [rate(speed)]),
    ...(speed === undefined || over || done >= total || !known ? [] : [`${duration((total - done) / speed)} left`]),
    ...(note === "" ? [] : [note])
  ].join("  ")
}

const clear = "\r\x1b[2K"

/** Milliseconds by a clock that nobody sets. */
export const monotonic = (): number => performance.now()

/** A progress that draws on the output. */
export const make = (output: Output, now: () => number = monotonic): ProgressShape => {
  const bar = output.isTTY === true
  const interval = bar ? 100 : 15_000
  let state: State | undefined
  let started = 0
  let drawn = 0
  const current = (): State | undefined => state && { ...state, seconds: (now() - started) / 1000 }
  const draw = () => {
    const at = current()
    if (at === undefined) return
    drawn = now()
    const text = line(at, { bar })
    output.write(bar ? `${clear}${text.slice(0, (output.columns ?? 80) - 1)}` : `${text}\n`)
  }
  return {
    begin: (phase, total) =>
      Effect.sync(() => {
        state = { phase, total, done: 0, reused: 0, note: "", seconds: 0 }
        started = now()
        drawn = started
        if (bar) draw()
      }),
    advance: ({ reused = false, note } = {}) =>
      Effect.sync(() => {
        if (state === undefined) return
        state = {
          ...state,
          done: state.done + 1,
          reused: state.reused + (reused ? 1 : 0),
          note: note ?? state.note
        }
        if (now() - drawn >= interval) draw()
      }),
    end: Effect.sync(() => {
      const at = current()
      if (at === undefined) return
      const kept = at.reused > 0 ? ` (${at.reused} kept from before)` : ""
      output.write(`${bar ? clear : ""}${line(at, { over: true })}  in ${duration(at.seconds)}${kept}\n`)
      state = undefined
    })
  }
}

/** Progress on standard error. */
export const layer: Layer.Layer<never> = Layer.succeed(Progress, make(process.stderr))
