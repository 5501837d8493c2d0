/** Packing: what stands together in bins of one width, so that little of them is empty. Pure. */

/** Items in bins of at most `width`, first fit by falling length; a single longer item is a bin. */
export const bins = <Item>(
  items: ReadonlyArray<Item>,
  lengthOf: (item: Item) => number,
  width: number
): ReadonlyArray<ReadonlyArray<Item>> => {
  const found: Array<{ room: number; readonly items: Array<Item> }> = []
  let before = Infinity
  // No bin before this one has room for another item of the same length.
  let first = 0
  for (const item of [...items].sort((a, b) => lengthOf(b) - lengthOf(a))) {
    const length = lengthOf(item)
    if (length < before) first = 0
    before = length
    while (first < found.length && found[first]!.room < length) first++
    const bin = found[first]
    if (bin === undefined) found.push({ room: width - length, items: [item] })
    else {
      bin.items.push(item)
      bin.room -= length
    }
  }
  return found.map(({ items }) => items)
}
