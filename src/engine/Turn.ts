/**
 * Turn: how long a thread works before others have their turn.
 *
 * Hundreds of requests may begin, and hundreds of answers arrive, in one turn of the event loop. What is done for each
 * is short, but timers, signals and servers of the same thread wait for all of it. Whoever does such work asks between
 * two pieces of it for a {@link pause}, which waits for the loop's next turn once the stretch has been long enough.
 */
import { Effect } from "effect"

/** Milliseconds of work at a stretch: two of them, and a collection of young objects, may come in one turn. */
const stretch = 0.5

let since: number | undefined

/** Whether the work of this turn has gone on for long enough; the first who asks begins it. */
const spent = (): boolean => {
  if (since === undefined) {
    since = performance.now()
    setImmediate(() => (since = undefined))
  }
  return performance.now() - since >= stretch
}

/** A listener that is told of what arrives together in several turns, in the same order. */
export const spread = <A>(listener: (event: A) => void): ((event: A) => void) => {
  const waiting: Array<A> = []
  let at = 0
  const tell = (): void => {
    // One at least: who goes on for long, pausing now and then, begins every turn, and leaves nothing of it.
    do listener(waiting[at++]!)
    while (at < waiting.length && !spent())
    if (at < waiting.length) {
      setImmediate(tell)
      return
    }
    waiting.length = at = 0
  }
  return (event) => {
    waiting.push(event)
    if (waiting.length > 1) return
    if (spent()) setImmediate(tell)
    else tell()
  }
}

/** Who waits for a later turn goes on in the order in which they came, each woken once, however many wait. */
const later = spread<() => void>((goOn) => goOn())

/** Goes on at once, or in a later turn of the event loop where this one has been long. */
export const pause: Effect.Effect<void> = Effect.suspend(() =>
  spent() ? Effect.callback<void>((resume) => later(() => resume(Effect.void))) : Effect.void
)
