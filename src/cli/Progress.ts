/**
 * Progress: the phases of a run on standard error, as a bar on a terminal and as plain lines elsewhere.
 */
import { Effect, Layer } from "effect"
import * as Elapsed from "../recipes/Elapsed.ts"
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

/** A progress that draws on the output. */
export const make = (output: Output): ProgressShape => {
  const bar = output.isTTY === true
  /** In seconds. */
  const interval = bar ? 0.1 : 15
  let state: Omit<State, "seconds"> | undefined
  let elapsed = Effect.succeed(0)
  let drawn = 0
  const draw = (at: State) => {
    drawn = at.seconds
    const text = line(at, { bar })
    output.write(bar ? `${clear}${text.slice(0, (output.columns ?? 80) - 1)}` : `${text}\n`)
  }
  return {
    begin: Effect.fnUntraced(function* (phase, total) {
      elapsed = yield* Elapsed.begin
      state = { phase, total, done: 0, reused: 0, note: "" }
      drawn = 0
      if (bar) draw({ ...state, seconds: 0 })
    }),
    advance: Effect.fnUntraced(function* ({ reused = false, note } = {}) {
      const seconds = yield* elapsed
      if (state === undefined) return
      state = {
        ...state,
        done: state.done + 1,
        reused: state.reused + (reused ? 1 : 0),
        note: note ?? state.note
      }
      if (seconds - drawn >= interval) draw({ ...state, seconds })
    }),
    end: Effect.gen(function* () {
      const seconds = yield* elapsed
      if (state === undefined) return
      const at = { ...state, seconds }
      const kept = at.reused > 0 ? ` (${at.reused} kept from before)` : ""
      output.write(`${bar ? clear : ""}${line(at, { over: true })}  in ${duration(at.seconds)}${kept}\n`)
      state = undefined
    })
  }
}

/** Progress on standard error. */
export const layer: Layer.Layer<never> = Layer.succeed(Progress, make(process.stderr))
