# # Chapter 08: sampling
