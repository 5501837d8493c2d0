/**
 * StopTexts: whether a continuation under way has one of the texts in it that end it.
 */
import type { Tokenizer } from "../model/Tokenizer.ts"

/**
 * Tells of the tokens so far. A stop text may have a special token in it, and it may be there for a reader once special
 * tokens are left out; both count.
 *
 * Every token but a special one has a byte at least, so the last few tokens are enough to see a text that has just come
 * to its end; some more may be a part of what comes before it.
 */
export const recognise = (
  texts: ReadonlyArray<string>,
  decode: Tokenizer["decode"]
): ((tokenIds: ReadonlyArray<number>) => boolean) => {
  const window = 8 + Math.max(...texts.map((text) => Buffer.byteLength(text)))
  const silent = new Map<number, boolean>()
  const isSilent = (id: number): boolean => {
    // Twice, as some decoders take a space away that a text begins with.
    const known = silent.get(id) ?? decode([id, id], { skipSpecialTokens: true }) === ""
    silent.set(id, known)
    return known
  }
  /** The last few tokens that say something. */
  const lastSaying = (tokenIds: ReadonlyArray<number>): ReadonlyArray<number> => {
    const found: Array<number> = []
    for (let i = tokenIds.length - 1; i >= 0 && found.length < window; i--) {
      if (!isSilent(tokenIds[i]!)) found.push(tokenIds[i]!)
    }
    return found.reverse()
  }
  const isIn = (tokenIds: ReadonlyArray<number>): boolean => {
    const said = decode(tokenIds)
    return texts.some((text) => said.includes(text))
  }
  return (tokenIds) => {
    const tail = tokenIds.slice(-window)
    return isIn(tail) || (tail.some(isSilent) && isIn(lastSaying(tokenIds)))
  }
}
