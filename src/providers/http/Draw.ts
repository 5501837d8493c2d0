/**
 * Draw: which sample of a text a request is for.
 *
 * @internal
 */
import * as Random from "../../Random.ts"
import type { Sampling } from "../../Sampling.ts"

export interface Draw {
  /** All randomness comes from the seed, the sample and the vote, as everywhere in Charter. */
  readonly seed: number
  /** For the cache; greedy answers are the same for every sample. */
  readonly sample: string | undefined
}

export const make = ({ seed, id, temperature }: Sampling, vote = 0): Draw => {
  if (temperature === 0) return { seed, sample: undefined }
  // Servers read a seed as a signed number of 32 bits.
  return { seed: Random.hash(seed, id, vote) >>> 1, sample: `${seed}/${id}/${vote}` }
}
