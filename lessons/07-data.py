# # Chapter 07: data
