"""Words that canaries and the code around them are made of: 256, so that each drawn one is worth 8 bits."""

TEXT = """
acorn amber anchor anvil apple apron arrow aspen atlas autumn badger bamboo banjo banner barley basin basket
beacon beetle bellow birch bishop blanket blossom bonnet border bottle boulder branch brass breeze bridge bronze
bucket buckle butter button cabin cactus camel candle canoe canvas canyon carpet castle cedar cellar chalk
cherry chisel cider cinder circle clover cobalt coffee comet compass copper coral cotton cougar cradle crane
crater cricket crimson crystal cypress dagger daisy desert diamond dolphin donkey drawer drizzle eagle ember
emerald engine falcon feather fennel fiddle finch flannel flint forest fossil fountain fox galley garlic garnet
ginger glacier goblet granite grape gravel guitar hammer hamper harbour harvest hazel heather heron hollow honey
hornet island ivory jacket jasmine jigsaw jungle juniper kennel kettle kitten ladder lagoon lantern laurel lemon
lettuce lichen lilac linen lizard lobster locket lotus magnet mallet mango maple marble meadow melon mirror
mitten monsoon mortar mosaic mustard napkin nectar needle nickel nutmeg oasis olive onion opal orange orchard
orchid otter oyster paddle palace panther parcel parsley pasture peach pebble pepper pigeon pillow pilot plank
plaster plum pocket pollen poplar prairie puddle pumpkin quarry quartz quilt rabbit radish raven ribbon river
rocket rooster rubber ruby saddle saffron salmon sandal sapphire satin scarf shadow shelter shovel silver
sparrow spider spruce squash stable starling summit sunset swallow tablet tartan teapot thicket thimble thistle
thunder timber tinsel tomato topaz trellis tulip tunnel turnip turtle umber umbrella upland urchin valley velvet
vessel vine violet walnut walrus weasel whisker willow window winter wolf wren yarrow yogurt zebra zenith zephyr
zinnia
"""
WORDS = tuple(TEXT.split())
