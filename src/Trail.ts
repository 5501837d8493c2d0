/**
 * Trail: the way of a record back to the prompt that it began with.
 *
 * @internal
 */
import type { Comparison, Critique, Preference, Prompt, Response, Revision, Reward, Rollout } from "./Sample.ts"

type AnyRecord = Prompt | Response | Critique | Revision | Comparison | Preference | Rollout | Reward

/** One record on the way from a result back to its prompt. */
export interface Step {
  readonly kind: "reward" | "rollout" | "preference" | "comparison" | "revision" | "critique" | "response" | "prompt"
  readonly id: string
  readonly model?: string
  readonly seed?: number
  /** The id of the principle. */
  readonly principle?: string
  /** The round of a critique or revision, from 1. */
  readonly round?: number
}

/**
 * The audit trail of a record: the record itself, its parents, their parents, and the prompt at last.
 *
 * @param earlier finds the revision with an id. A record holds the answer of the round before under the id of its
 *   revision and not that revision itself; with this the trail goes on through all rounds.
 *
 * @example
 * Sample.trail(preference).map(({ kind, model, principle, seed }) => [kind, model, principle, seed])
 */
export const trail = (
  record: AnyRecord,
  earlier: (id: string) => Revision | undefined = () => undefined
): ReadonlyArray<Step> => {
  const { id } = record
  const back = (parent: AnyRecord) => trail(parent, earlier)
  const from = ({ model, seed }: { readonly model?: string; readonly seed?: number }) => ({
    ...(model === undefined ? {} : { model }),
    ...(seed === undefined ? {} : { seed })
  })
  // Told by what it holds: a record that was edited or read from JSON is none of these classes.
  if ("messages" in record) return [{ kind: "prompt", id }]
  if ("response" in record) {
    const { principle, round } = record
    return [{ kind: "critique", id, ...from(record), principle, round }, ...back(record.response)]
  }
  if ("critique" in record) {
    const { principle } = record.critique
    return [{ kind: "revision", id, ...from(record), principle, round: record.round }, ...back(record.critique)]
  }
  if ("first" in record) {
    const first = back(record.first)
    // Both answers are to the same prompt, which comes once.
    return [{ kind: "comparison", id }, ...first.slice(0, -1), ...back(record.second)]
  }
  if ("comparison" in record) {
    return [{ kind: "preference", id, ...from(record), principle: record.principle }, ...back(record.comparison)]
  }
  if ("rollout" in record) return [{ kind: "reward", id, ...from(record) }, ...back(record.rollout)]
  if ("tokenIds" in record) return [{ kind: "rollout", id, ...from(record) }, ...back(record.prompt)]
  const revision = earlier(id)
  return revision === undefined ? [{ kind: "response", id, ...from(record) }, ...back(record.prompt)] : back(revision)
}
