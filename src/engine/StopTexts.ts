/**
 * StopTexts: whether a continuation under way has one of the texts in it that end it.
 */

/**
 * Tells of the tokens so far. Every token but a special one has a byte at least, so the last few tokens are enough to
 * see a text that has just come to its end; some more may be a part of what comes before it.
 */
export const recognise = (
  texts: ReadonlyArray<string>,
  decode: (ids: ReadonlyArray<number>) => string
): ((tokenIds: ReadonlyArray<number>) => boolean) => {
  const window = 8 + Math.max(...texts.map((text) => Buffer.byteLength(text)))
  return (tokenIds) => {
    const tail = decode(tokenIds.slice(-window))
    return texts.some((text) => tail.includes(text))
  }
}
