/**
 * CallLog: the calls of several mocks, in the order in which they were made.
 *
 * @example
 * const log = CallLog.make()
 * const writer = MockLanguageModel.make("text", { model: "writer", log })
 * const judge = MockDecisionModel.make(0.7, { model: "judge", log })
 * // ... run a pipeline with both ...
 * assert.deepStrictEqual(log.models, ["writer", "writer", "judge", "judge"])
 */

/** One call of one mock. */
export interface Entry {
  /** The name of the mock. */
  readonly model: string
  /** Which of its calls it is, from 1. */
  readonly n: number
  /** What was asked: the `Call` of the mock. */
  readonly call: object
}

export interface CallLog {
  readonly entries: ReadonlyArray<Entry>
  /** The names of the mocks, call by call. */
  readonly models: ReadonlyArray<string>
  readonly write: (entry: Entry) => void
}

/** An empty log, to be given to mocks as their `log`. */
export const make = (): CallLog => {
  const entries: Array<Entry> = []
  return {
    entries,
    get models() {
      return entries.map(({ model }) => model)
    },
    write: (entry) => void entries.push(entry)
  }
}
